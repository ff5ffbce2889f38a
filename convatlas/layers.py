"""Pieces that two or more papers share.

Letters in shapes: N images, cin and cout channels, H and W height and width.
"""

from torch import nn


def chain(**modules: nn.Module) -> nn.Sequential:
    """Modules one after the other under their names, in the order given.

    A paper's own labels thus stand in parameter names and in tables, where a bare Sequential would print numbers.
    """
    net = nn.Sequential()
    for name, module in modules.items():
        net.add_module(name, module)
    return net


def conv_bn(cin: int, cout: int, kernel: int, stride: int = 1) -> nn.Sequential:
    """Convolution, then batch normalisation. (N,cin,H,W) -> (N,cout,H/stride,W/stride), rounded up.

    Padding keeps the size at stride 1. There is no bias, since the normalisation's shift takes its place.
    """
    convolution = nn.Conv2d(cin, cout, kernel, stride, padding=kernel // 2, bias=False)
    return chain(conv=convolution, bn=nn.BatchNorm2d(cout))


def initialise_he(net: nn.Module) -> None:
    """Draws weights from N(0, 2/fan_in) and sets biases to 0 (He et al. 2015, arXiv:1502.01852, equation 10)."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, mode="fan_in", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
