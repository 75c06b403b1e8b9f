"""The image transform net of Johnson et al. 2016 (supplementary material, table 1), with instance normalization."""

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from fastnst.errors import UserError
from fastnst.losses.terms import reference_picture
from fastnst.models.colors import SIDE, behind, coarse, lighting, moments
from fastnst.models.net import Net, Shares


class InstanceNorm(nn.InstanceNorm2d):
    """Instance normalization (Ulyanov et al. 2017), in the layout that its input has.

    (N, C, H, W) in and out. Torch's own gives channels-first whatever it is given, and each convolution behind it copies
    that back to channels-last. On the CPU this is the same as a group normalization with one channel a group, whose
    gradient is slow, and as a batch normalization of each picture alone, whose gradient is not.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or torch.compiler.is_compiling():  # a compiler fuses it, and chooses the layout
            return super().forward(x)
        if not (x.requires_grad and torch.is_grad_enabled()):
            return F.group_norm(x, self.num_features, self.weight, self.bias, self.eps)
        return torch.cat([F.batch_norm(p, None, None, self.weight, self.bias, True, eps=self.eps) for p in x.split(1)])


UPSAMPLES = ("antialiased", "nearest", "transposed")
OUTPUTS = ("tanh", "linear")
NORMS: dict[str, Callable[[int], nn.Module]] = {"instance": lambda c: InstanceNorm(c, affine=True), "batch": nn.BatchNorm2d}


class TransformNet(Net):
    """c9s1-32, d64, d128, five residual blocks of 128, u64, u32, c9s1-3: pictures in, restyled pictures out.

    norm: `instance` (Ulyanov et al. 2017: each picture's own statistics, so one picture's contrast does not matter) or
        `batch` (as the paper).
    width: channels of the first convolution, 32 in the paper; the authors' later instance-norm models have 16.
    upsample: how the net changes size. `antialiased` averages before it reduces and interpolates where it enlarges (Zhang
        2019): flat areas show no pattern of the 4 px grid. `nearest` (enlarge, then convolve: Odena et al. 2016) and
        `transposed` (as the paper) reduce by strided convolutions.
    output: `tanh` (as the paper, see the method) or `linear`: the last convolution gives the picture itself, as in nets of
        other projects.
    """

    def __init__(self, norm: str = "instance", width: int = 32, upsample: str = "nearest", output: str = "tanh"):
        super().__init__()
        if norm not in NORMS:
            raise UserError(f"model.norm={norm}: give instance or batch")
        if upsample not in UPSAMPLES:
            raise UserError(f"model.upsample={upsample}: give {', '.join(UPSAMPLES[:-1])} or {UPSAMPLES[-1]}")
        if output not in OUTPUTS:
            raise UserError(f"model.output={output}: give tanh or linear")
        if not isinstance(width, int) or not 1 <= width <= 512:
            raise UserError(f"model.width={width}: give a number of channels from 1 to 512")
        self.architecture = {"norm": norm, "width": width, "upsample": upsample, "output": output}
        w = width
        self.layers = nn.Sequential(
            _conv(3, w, 9), NORMS[norm](w), nn.ReLU(inplace=True),
            _down(w, 2 * w, upsample), NORMS[norm](2 * w), nn.ReLU(inplace=True),
            _down(2 * w, 4 * w, upsample), NORMS[norm](4 * w), nn.ReLU(inplace=True),
            *(Residual(4 * w, norm) for _ in range(5)),
            _up(4 * w, 2 * w, upsample), NORMS[norm](2 * w), nn.ReLU(inplace=True),
            _up(2 * w, w, upsample), NORMS[norm](w), nn.ReLU(inplace=True),
            _conv(w, 3, 9, bias=True),
        )  # fmt: skip

    def forward(self, photographs: Tensor) -> Tensor:
        """photographs: (N, 3, H, W), RGB in 0-1, H and W from 16. Returns the same shape, about 0-1: clamp to show it.

        Raises ValueError for a smaller picture.
        """
        return self.framed(photographs, self.layers)

    def framed(self, photographs: Tensor, layers: Callable[[Tensor], Tensor]) -> Tensor:
        """`forward`, with `layers` for this net's own."""
        height, width = photographs.shape[-2:]
        if min(height, width) < 16:
            raise ValueError(f"a picture of {width} x {height} px is too small; 16 px is the least")
        # Two halvings want multiples of 4: what is missing is reflected, and cut off again.
        x = F.pad(photographs, (0, -width % 4, 0, -height % 4), mode="reflect")
        return self.output(layers(x * 2 - 1)[..., :height, :width])

    def output(self, x: Tensor) -> Tensor:
        """What the last convolution gives, as a picture of the same shape, about 0-1.

        The paper's scaled tanh, 150 tanh(x) about mid-grey: 0 and 255 lie inside its range, not at its limits, where
        gradients vanish. x itself with output=linear.
        """
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return x if self.architecture["output"] == "linear" else 0.5 + 150 / 255 * torch.tanh(x)

    def before_output(self, pictures: Tensor) -> Tensor:
        """What `output` makes these pictures of: values in 0-1, and a little outside, of any shape."""
        return pictures if self.architecture["output"] == "linear" else torch.atanh((pictures - 0.5) * (255 / 150))

    @property
    def body(self) -> "TransformNet":
        return self

    @property
    def channels(self) -> int:
        """Channels of the first layer, on which the memory of a pass depends."""
        return self.architecture["width"]

    def name_of(self, paintings: Collection[str]) -> str:
        if len(paintings) > 1:
            raise UserError(
                f"style={', '.join(paintings)}: this model learns one style; give model=multi, or -m to train each"
            )
        return super().name_of(paintings)

    def first_embedding(self, style: str | None = None) -> Tensor:
        """The embedding, (numbers,), with which a net of several styles and of the same convolutions equals this one."""
        numbers = [numbers.detach() for norm in self.instance_norms() for numbers in (norm.weight, norm.bias)]
        colors = self.layers[-1].get_parameter("bias").detach()
        parts = [*numbers, colors.new_tensor([1.0, 0, 0, 0, 1, 0, 0, 0, 1])]
        embedding = colors.new_zeros(sum(map(len, parts)) + 3)
        # Nets are checked on the meta device, where torch.cat and torch.eye would import torch's compiler, for a second.
        for place, part in zip(embedding[:-3].split([*map(len, parts)]), parts, strict=True):
            place.copy_(part)
        return embedding

    def instance_norms(self) -> list[nn.InstanceNorm2d]:
        """From the input on."""
        return [module for module in self.modules() if isinstance(module, nn.InstanceNorm2d)]

    def sample_embeddings(self) -> list[Tensor]:
        return [self.first_embedding()]

    @torch.no_grad()
    def reset(self, norm: int, channels: Tensor) -> None:
        chosen = self.instance_norms()[norm]
        chosen.weight[channels] = self.woken
        chosen.bias[channels] = 0

    @torch.no_grad()
    def light(self, paintings: Sequence[Tensor]) -> None:
        last, training = self.layers[-1], self.training
        weight, bias = last.get_parameter("weight"), last.get_parameter("bias")
        self.eval()  # batch normalization would learn from the picture
        results = self.layers((reference_picture(SIDE) * 2 - 1).to(weight))
        self.train(training)
        lit = behind(weight.cpu().double(), bias.cpu().double(), *self.lighting(results, paintings[0]))
        weight.copy_(lit[0])
        bias.copy_(lit[1])

    def lighting(self, results: Tensor, painting: Tensor) -> tuple[Tensor, Tensor]:
        """The map of fastnst.models.colors from results before `output` to a painting in 0-1, (1, 3, H, W) both."""
        wanted = moments(self.before_output(coarse(painting)))
        return lighting(moments(results.cpu()), wanted)  # Apple's GPUs have no float64

    def fold(self, embedding: Tensor) -> "TransformNet":
        """The net itself: it has one embedding, and holds that already."""
        return self

    def begin_from(self, other: Net, embeddings: Callable[[], Mapping[str, Tensor]]) -> None:
        (embedding,) = embeddings().values()
        start = other.fold(embedding)
        check_alike(start, self)
        self.load_state_dict(start.state_dict())

    def pick(
        self, shares: Shares | None, info: dict, path: str | Path, masks: Sequence[Image.Image] | None = None
    ) -> "TransformNet":
        if shares is not None:
            raise UserError(f"style={', '.join(map(str, shares))}: {path} holds one style; leave style out")
        return self

    def pick_painting(self, style: str, painting: Path, info: dict, path: Path) -> "TransformNet":
        name = info.get("style", {}).get("name")
        if style not in (name, "custom"):  # style=custom, unless it is named, stands for the one style that is there
            raise UserError(
                f"the checkpoint's style is {name}, not {style}; give style={name}, or style=custom style.image=PATH"
            )
        return self

    def at(self, strength: float) -> "TransformNet":
        """The net itself, whatever the strength: its results are blended with the photograph."""
        return self

    def sized(self, height: int, width: int) -> "TransformNet":
        """The net itself: it takes pictures of any size."""
        return self


def check_alike(start: TransformNet, net: TransformNet) -> None:
    """Raises UserError unless `start` has all weights of `net`: nets of one norm, width and output, antialiased or not."""
    shapes, wanted = ({name: weight.shape for name, weight in n.state_dict().items()} for n in (start, net))
    alike = all(start.architecture[part] == net.architecture[part] for part in ("norm", "output"))
    if not alike or not wanted.items() <= shapes.items():
        raise UserError(f"init: its net is {start.architecture}, not {net.architecture}; give the same model")


class Residual(nn.Module):
    """x + conv(relu(conv(x))), normalized after each convolution, no ReLU after the sum (Gross and Wilber 2016).

    The paper leaves its convolutions unpadded and crops x to match, behind a wide reflection at the input; here each
    convolution reflects its own border, which keeps the size and costs less.
    """

    def __init__(self, channels: int, norm: str):
        super().__init__()
        self.layers = nn.Sequential(
            _conv(channels, channels, 3), NORMS[norm](channels), nn.ReLU(inplace=True),
            _conv(channels, channels, 3), NORMS[norm](channels),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class ReflectedConv2d(nn.Conv2d):
    """A convolution of the picture reflected at its border: nn.Conv2d's with padding_mode="reflect".

    Autocast on the CPU would have the reflection in float32, and the result copied back to half precision.
    """

    def forward(self, x: Tensor) -> Tensor:
        autocast = torch.is_autocast_enabled(x.device.type)
        with torch.autocast(x.device.type, enabled=False) if autocast else nullcontext():
            x = F.pad(x, self._reversed_padding_repeated_twice, mode="reflect")
        return F.conv2d(x, self.weight, self.bias, self.stride)


class HalvingConv2d(ReflectedConv2d):
    """A convolution of the means over 2 x 2 px: half the height and width, without a stride's aliasing (Zhang 2019)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.avg_pool2d(x, 2))


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    # No bias before a normalization, which would subtract it again.
    return ReflectedConv2d(inputs, outputs, kernel, stride, kernel // 2, bias=bias, padding_mode="reflect")


def _down(inputs: int, outputs: int, upsample: str) -> nn.Conv2d:
    if upsample == "antialiased":
        return HalvingConv2d(inputs, outputs, 3, padding=1, bias=False, padding_mode="reflect")
    return _conv(inputs, outputs, 3, stride=2)


def _up(inputs: int, outputs: int, upsample: str) -> nn.Module:
    if upsample == "transposed":
        return nn.ConvTranspose2d(inputs, outputs, 3, stride=2, padding=1, output_padding=1, bias=False)
    mode = "bilinear" if upsample == "antialiased" else "nearest"
    return nn.Sequential(nn.Upsample(scale_factor=2, mode=mode), _conv(inputs, outputs, 3))
