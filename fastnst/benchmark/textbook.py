"""A training step and its net as tutorials write them: eager, contiguous, float32. The benchmark's yardstick.

It computes the same function and the same losses as fastnst's own, and none of its code.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fastnst.losses.objective import Objective
from fastnst.models.transform_net import TransformNet

TAPS = (3, 8, 15, 22)  # relu1_2, relu2_2, relu3_3 and relu4_3 among the modules of `vgg`


def conv(inputs: int, outputs: int, kernel: int, stride: int = 1, bias: bool = False) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=bias, padding_mode="reflect")


class HalvingConv(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(F.avg_pool2d(x, 2))


class Block(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.layers = nn.Sequential(
            conv(channels, channels, 3), nn.InstanceNorm2d(channels, affine=True), nn.ReLU(),
            conv(channels, channels, 3), nn.InstanceNorm2d(channels, affine=True),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Net(nn.Module):
    """A `TransformNet` with its weights, antialiased or nearest, for sides that are multiples of 4."""

    def __init__(self, net: TransformNet):
        super().__init__()
        w, antialiased = net.architecture["width"], net.architecture["upsample"] == "antialiased"

        def down(inputs: int, outputs: int) -> nn.Conv2d:
            if antialiased:
                return HalvingConv(inputs, outputs, 3, padding=1, bias=False, padding_mode="reflect")
            return conv(inputs, outputs, 3, stride=2)

        def up(inputs: int, outputs: int) -> nn.Sequential:
            enlarge = nn.Upsample(scale_factor=2, mode="bilinear" if antialiased else "nearest")
            return nn.Sequential(enlarge, conv(inputs, outputs, 3))

        self.layers = nn.Sequential(
            conv(3, w, 9), nn.InstanceNorm2d(w, affine=True), nn.ReLU(),
            down(w, 2 * w), nn.InstanceNorm2d(2 * w, affine=True), nn.ReLU(),
            down(2 * w, 4 * w), nn.InstanceNorm2d(4 * w, affine=True), nn.ReLU(),
            *(Block(4 * w) for _ in range(5)),
            up(4 * w, 2 * w), nn.InstanceNorm2d(2 * w, affine=True), nn.ReLU(),
            up(2 * w, w), nn.InstanceNorm2d(w, affine=True), nn.ReLU(),
            conv(w, 3, 9, bias=True),
        )  # fmt: skip
        self.load_state_dict(net.state_dict())

    def forward(self, x: Tensor) -> Tensor:
        return 0.5 + 150 / 255 * torch.tanh(self.layers(2 * x - 1))


class Step:
    """One training step at a time, from `net`'s weights, on `objective`'s losses with the default weights.

    Call it with photographs, (N, 3, H, W) in 0-1; it returns the terms of the objective, scalars by name.
    """

    def __init__(self, net: TransformNet, objective: Objective, style_image: Tensor):
        self.net, self.objective = Net(net), objective
        loaded = objective.loss_network
        modules: list[nn.Module] = []
        for name in loaded.convolutions:
            if name.endswith("_1") and name != "conv1_1":
                modules.append(nn.MaxPool2d(2))
            weight, bias = getattr(loaded, f"{name}_weight"), getattr(loaded, f"{name}_bias")
            layer = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
            layer.load_state_dict({"weight": weight.contiguous(), "bias": bias})
            modules += [layer, nn.ReLU(inplace=True)]
        self.vgg = nn.Sequential(*modules).requires_grad_(False).to(style_image.device)
        self.net = self.net.to(style_image.device)
        self.optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3)
        self.style = [self.gram(f) for f in self.features(style_image)]

    def features(self, x: Tensor) -> list[Tensor]:
        x, found = (x - self.objective.loss_network.mean) / self.objective.loss_network.std, []
        for i, module in enumerate(self.vgg):
            x = module(x)
            if i in TAPS:
                found.append(x)
        return found

    @staticmethod
    def gram(x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        flat = x.view(n, c, h * w)
        return torch.bmm(flat, flat.transpose(1, 2)) / (c * h * w)

    def losses(self, x: Tensor) -> dict[str, Tensor]:
        y = self.net(x)
        fy, fx = self.features(y), self.features(x)
        content = F.mse_loss(fy[2], fx[2]) / self.objective.content_unit
        style = torch.zeros_like(content)
        for f, target in zip(fy, self.style, strict=True):
            squared = F.mse_loss(self.gram(f), target.expand(len(f), -1, -1), reduction="sum") / len(f)
            style = style + squared / target.square().sum() / 4
        down, across = y[:, :, 1:] - y[:, :, :-1], y[:, :, :, 1:] - y[:, :, :, :-1]
        tv = (down.square().sum() + across.square().sum()) / y.numel() / self.objective.tv_unit
        return {"total": content + 5 * style + 0.1 * tv, "content": content, "style": style, "tv": tv}

    def __call__(self, x: Tensor) -> dict[str, Tensor]:
        self.optimizer.zero_grad()
        terms = self.losses(x)
        terms["total"].backward()
        self.optimizer.step()
        return terms
