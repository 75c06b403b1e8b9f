"""Silent channels of a net, woken before it is trained on.

Training can push a channel's shift so far down that its ReLU gives 0 everywhere. No gradient gets past that, so the channel
is lost for good; and each net that begins at this one loses more. docs/notebook.md has how many, and what waking them gains.
"""

import torch
from torch import Tensor, nn

from fastnst.losses.terms import reference_picture
from fastnst.models.conditional import ConditionalNorm
from fastnst.models.net import Net
from fastnst.models.transform_net import Residual, TransformNet

QUIET = 1e-3  # the share of a picture below which a channel is silent


@torch.no_grad()
def wake(net: Net) -> int:
    """Lets the channels that are silent in all of a net's styles begin anew. Returns how many there were.

    They get a scale (`Net.woken`) and no shift, and the next convolution a weight of 0 for them: so pictures stay as they
    are, and training reaches them. Silent on the reference picture is silent.
    """
    body = net.body
    assert isinstance(body, TransformNet)  # of every `Net`
    shares = [_shares(net.fold(embedding)) for embedding in net.sample_embeddings()]
    count = 0
    for (norm, _, following), found in zip(_links(body), zip(*shares, strict=True), strict=True):
        channels = (torch.stack(found).amax(0) < QUIET).nonzero().flatten()
        net.reset(norm, channels)
        weight = following.get_parameter("weight")
        inputs = weight if isinstance(following, nn.ConvTranspose2d) else weight.transpose(0, 1)
        inputs[channels] = 0
        count += len(channels)
    return count


def _shares(net: TransformNet) -> list[Tensor]:
    """For each of `_links`, each channel's share, (C,), of the reference picture that gets past the ReLU."""
    shares: list[Tensor] = []

    def note(module: nn.Module, inputs: tuple[Tensor], result: Tensor) -> None:
        shares.append((result > 0).float().mean((0, 2, 3)))

    hooks = [relu.register_forward_hook(note) for _, relu, _ in _links(net)]
    if hooks:  # a net of batch normalization would learn from the picture
        net(reference_picture())
    for hook in hooks:
        hook.remove()
    return shares


def _links(net: TransformNet) -> list[tuple[int, nn.Module, nn.Module]]:
    """For each instance normalization with a ReLU and a convolution behind it: its number from the input on, and these two.

    One before a residual block is none of them: its channels live on what the blocks add.
    """
    norms = [module for module in net.modules() if isinstance(module, (nn.InstanceNorm2d, ConditionalNorm))]
    chains = [net.layers, *(block.layers for block in net.layers if isinstance(block, Residual))]
    found = []
    for chain in chains:
        for norm, relu, following in zip(chain[1:], chain[2:], chain[3:], strict=False):
            if isinstance(relu, nn.ReLU) and norm in norms and not isinstance(following, Residual):
                convolution = following[-1] if isinstance(following, nn.Sequential) else following
                found.append((norms.index(norm), relu, convolution))
    return sorted(found, key=lambda link: link[0])
