"""Recipes of optimization-based style transfer, each with its formulas. configs/recipe/ has layers, weights and optimizers.

phi is a layer's features, a (C, M) matrix of C channels at M positions; y is the picture, x the photograph, s the painting.
Style is a weighted sum over layers; a term is as in `Objective` where a recipe does not say otherwise.
"""

from collections.abc import Collection

from torch import Tensor

from fastnst.errors import UserError
from fastnst.losses.objective import Objective
from fastnst.losses.terms import content_loss, gram_matrix, isotropic_total_variation


class Isotropic(Objective):
    """Recipe `tv`: `Objective` with the isotropic total variation, sum sqrt(dx^2 + dy^2), over the reference picture's.

    It costs an edge its height and not its square, so it flattens areas and leaves outlines.
    """

    def total_variation(self, images: Tensor) -> Tensor:
        return isotropic_total_variation(images)


class Published(Objective):
    """A recipe as it was published, with raw losses and weights found by trial.

    pixel_range: the range of pixels its loss network was trained on, in which its weights make sense: 255 for Oxford's
    networks, 1 / 0.226 for torchvision's, trained on pixels in units of ImageNet's standard deviation. Features are about
    as much larger as the pixels were in training (layers start from the same distribution whatever the range), so on
    weights of the other kind they are multiplied by the ratio of the ranges: the balance of the terms is roughly kept.
    """

    pixel_range: float

    def layer_weights(self, weights: dict[str, float]) -> dict[str, float]:
        return weights

    def measure_units(self, reference: Tensor) -> None:
        """There are none: the losses are raw. Raises UserError for a weight of a term that no recipe has."""
        for name in ("palette", "tone"):
            if self.weights[name]:
                raise UserError(f"loss.{name}_weight={self.weights[name]}: this recipe has no such term; give 0")

    def features(self, images: Tensor, layers: Collection[str]) -> dict[str, Tensor]:
        scale = self.pixel_range * self.loss_network.std.mean()
        return {layer: scale * features for layer, features in self.loss_network(images, layers).items()}

    def content(self, features: Tensor, target: Tensor) -> Tensor:
        return content_loss(features, target)

    def style(self, gram: Tensor, target: Tensor) -> Tensor:
        return (gram - target).square().mean()

    def variation(self, images: Tensor) -> Tensor:
        return self.total_variation(images)


class Gatys(Published):
    """Recipe `gatys` (Gatys, Ecker and Bethge 2015, equations 1 to 7).

    content = 1/2 sum (phi(y) - phi(x))^2; G = phi phi^T; style of a layer E = 1 / (4 C^2 M^2) sum (G(y) - G(s))^2.

    The paper resizes the painting so that M is the same for both; here each Gram matrix is divided by its own M. Its layers
    are called conv4_2 and so on, but in its Caffe network ReLUs work in place: what it reads has been rectified. The paper
    found averages in the place of VGG's maximum poolings a little more pleasing; here the network stays as it is.
    """

    pixel_range = 255.0

    def content(self, features: Tensor, target: Tensor) -> Tensor:
        return (features - target).square().sum() / 2

    def gram(self, features: Tensor) -> Tensor:
        return gram_matrix(features) * features.shape[1]

    def style(self, gram: Tensor, target: Tensor) -> Tensor:
        return (gram - target).square().sum() / (4 * gram.shape[1] ** 2)


class PyTorch(Published):
    """Recipe `pytorch` (PyTorch's tutorial "Neural Transfer Using PyTorch").

    content = mean (phi(y) - phi(x))^2; G = phi phi^T / (N C H W); style of a layer = mean (G(y) - G(s))^2.

    Its conv_1 to conv_5 are the network's first five convolutions, read before their ReLU.
    """

    pixel_range = 1 / 0.226


class TensorFlow(Published):
    """Recipe `tensorflow` (TensorFlow's tutorial "Neural style transfer").

    content = mean (phi(y) - phi(x))^2; G = phi phi^T / M; style of a layer = mean (G(y) - G(s))^2; the weights of content
    and of style are each divided by their number of layers, which configs/recipe/tensorflow.yaml does in style_layers.
    """

    pixel_range = 255.0

    def gram(self, features: Tensor) -> Tensor:
        return gram_matrix(features) * features.shape[1]


class D2L(Published):
    """Recipe `d2l` ("Dive into Deep Learning", section Neural Style Transfer).

    content = mean (phi(y) - phi(x))^2; G = phi phi^T / (C M); style of a layer = mean (G(y) - G(s))^2;
    tv = 1/2 (mean |dx| + mean |dy|), of pixels in units of ImageNet's standard deviation, in which Adam moves them too.

    Its layers are convolutions before their ReLU.
    """

    pixel_range, pixel_unit = 1 / 0.226, 0.226

    def total_variation(self, images: Tensor) -> Tensor:
        pixels = images / self.pixel_unit
        dx, dy = pixels[..., 1:] - pixels[..., :-1], pixels[..., 1:, :] - pixels[..., :-1, :]
        return (dx.abs().mean() + dy.abs().mean()) / 2
