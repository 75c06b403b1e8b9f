"""The layers of VGG16 and VGG19 by the paper's names, `relu1_2` and so on (Simonyan and Zisserman 2014)."""

from collections.abc import Collection

from fastnst.errors import UserError

WIDTHS = (64, 128, 256, 512, 512)  # channels of the convolutions of each block
BLOCKS = {"vgg16": (2, 2, 3, 3, 3), "vgg19": (2, 2, 4, 4, 4)}  # convolutions in each block; a pooling stands between blocks
STYLE_LAYERS = ("relu1_2", "relu2_2", "relu3_3", "relu4_3")  # the paper's; its content layer is relu3_3


def convolutions(network: str) -> tuple[str, ...]:
    """Names of a network's convolutions from the input on: conv1_1, conv1_2, conv2_1, ... Raises UserError if unknown."""
    if network not in BLOCKS:
        raise UserError(f"loss_network.network={network}: give {' or '.join(BLOCKS)}")
    return tuple(f"conv{b}_{i}" for b, count in enumerate(BLOCKS[network], 1) for i in range(1, count + 1))


def torchvision_index(network: str) -> dict[str, int]:
    """The index of each convolution in torchvision's `features`: a ReLU follows each, a pooling each block."""
    return {name: 2 * i + int(name[4]) - 1 for i, name in enumerate(convolutions(network))}


def check_layers(layers: Collection[str], network: str = "vgg16") -> None:
    """Raises UserError unless every name is a layer: `relu1_2`, or `conv1_2` for what that ReLU is given."""
    names = convolutions(network)
    for layer in layers:
        if layer.replace("relu", "conv") not in names:
            raise UserError(
                f"{network} has no layer {layer!r}; it has {', '.join(n.replace('conv', 'relu') for n in names)}, "
                "and conv1_1 and so on for the same before the ReLU"
            )


def up_to(layers: Collection[str], network: str) -> tuple[str, ...]:
    """The convolutions that `layers` take: all up to the deepest of them."""
    names = convolutions(network)
    return names[: 1 + max(names.index(layer.replace("relu", "conv")) for layer in layers)]
