"""Pieces that two or more papers share.

Letters in shapes: N images, cin and cout channels, H and W height and width.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn


def chain(**modules: nn.Module) -> nn.Sequential:
    """Modules one after the other under their names, in the order given.

    A paper's own labels thus stand in parameter names and in tables, where a bare Sequential would print numbers.
    """
    net = nn.Sequential()
    for name, module in modules.items():
        net.add_module(name, module)
    return net


def conv_bn(
    cin: int,
    cout: int,
    kernel: int | tuple[int, int],
    stride: int = 1,
    *,
    padding: int | tuple[int, int] | None = None,
    groups: int = 1,
    eps: float = 1e-5,
) -> nn.Sequential:
    """Convolution, then batch normalisation. (N,cin,H,W) -> (N,cout,H/stride,W/stride), rounded up.

    Without `padding` it is what keeps the size at stride 1. There is no bias, since the normalisation's shift takes its
    place.
    """
    height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
    padding = (height // 2, width // 2) if padding is None else padding
    convolution = nn.Conv2d(cin, cout, (height, width), stride, padding, groups=groups, bias=False)
    return chain(conv=convolution, bn=nn.BatchNorm2d(cout, eps=eps))


class Concat(nn.Sequential):
    """Branches that see the same input, their outputs' channels one after the other. (N,cin,H,W) -> (N,sum,H',W')"""

    def __init__(self, **branches: nn.Module):
        super().__init__()
        for name, branch in branches.items():
            self.add_module(name, branch)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([branch(x) for branch in self], dim=1)


class Heads(NamedTuple):
    """What a network with auxiliary classifiers gives in training. The loss adds `weight` times each one's loss."""

    logits: Tensor
    auxiliary: tuple[Tensor, ...]
    weight: float


class WithHeads(nn.Sequential):
    """Layers one after the other, with auxiliary classifiers that look at some of them.

    `heads` gives for each classifier's name the layer whose output it sees. In training the output is `Heads`; in
    evaluation the classifiers are passed over and it is the logits.
    """

    def __init__(self, modules: Mapping[str, nn.Module], heads: Mapping[str, str], weight: float):
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.heads = dict(heads)
        self.weight = weight

    def forward(self, x: Tensor) -> Tensor | Heads:
        auxiliary = {}
        for name, module in self._modules.items():
            if name in self.heads or module is None:
                continue
            x = module(x)
            if self.training:
                auxiliary.update({h: self._modules[h](x) for h, seen in self.heads.items() if seen == name})
        return Heads(x, tuple(auxiliary[h] for h in self.heads), self.weight) if auxiliary else x


class Whiten(nn.Module):
    """Global contrast normalisation of each image, and for "zca" whitening of its pixels: (N,C,H,W) in shares of white.

    Each image's mean goes, and its pixels are divided by their root of summed squares over 55, as in the preprocessing
    of Maxout Networks (Goodfellow et al. 2013), which Network in Network takes over; an image of a single value becomes
    0. Then (x - mean) matrix, with what the training images gave (`data.moments.whitening`). Numbers are buffers: they
    travel with the weights.
    """

    SCALE = 55.0  # pylearn2's global_contrast_normalize
    FLAT = 1e-3  # a norm that only an image of one value has in 8 bits; pylearn2's 55e-8 is below float32's rounding
    mean: Tensor
    matrix: Tensor

    def __init__(self, kind: str, input: tuple[int, int, int]):
        super().__init__()
        pixels = input[0] * input[1] * input[2]
        self.kind = kind
        if kind == "zca":
            self.register_buffer("mean", torch.zeros(pixels))
            self.register_buffer("matrix", torch.eye(pixels))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        flat = flat - flat.mean(dim=1, keepdim=True)
        norm = flat.square().sum(dim=1, keepdim=True).sqrt()
        flat = flat / torch.where(norm < self.FLAT, torch.ones_like(norm), norm / self.SCALE)
        if self.kind == "zca":
            flat = (flat - self.mean) @ self.matrix
        return flat.reshape(x.shape)


def drop_heads(net: nn.Module) -> None:
    """Removes auxiliary classifiers, which nothing but training uses; a network without any stays as it is."""
    if isinstance(net, WithHeads):
        for name in net.heads:
            del net._modules[name]
        net.heads = {}


def initialise_he(net: nn.Module) -> None:
    """Draws weights from N(0, 2/fan_in) and sets biases to 0 (He et al. 2015, arXiv:1502.01852, equation 10)."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def initialise_normal(net: nn.Module, std: float) -> None:
    """Draws weights from N(0, std^2) and sets biases to 0."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.normal_(module.weight, 0, std)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def initialise_torch(net: nn.Module) -> None:
    """Draws weights and biases as PyTorch's layers do by themselves, uniformly from +-1/sqrt(fan_in)."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.reset_parameters()
