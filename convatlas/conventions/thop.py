"""thop 0.1.1: a hook for each module of an exact type; sums by the places of modules (profile.py, vision/)."""

from collections import Counter
from math import prod
from typing import Any

from torch import nn

from ..account import Input
from ..table import Shape, Table
from .listening import Refusal, first, listen, place, shape

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
NORMALISATION = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.LayerNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
    nn.SyncBatchNorm,
)
AVERAGE = (nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d)
ADAPTIVE = (nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d)
UPSAMPLING = (nn.Upsample, nn.UpsamplingBilinear2d, nn.UpsamplingNearest2d)
RECURRENT = (nn.RNN, nn.GRU, nn.LSTM, nn.RNNCell, nn.GRUCell, nn.LSTMCell)
HEARD = (*CONVOLUTIONS, *NORMALISATION, *AVERAGE, *ADAPTIVE, *UPSAMPLING, nn.PReLU, nn.Softmax, nn.Linear)
PER_ELEMENT = {"nearest": 1, "linear": 5, "bilinear": 11, "bicubic": 224 + 35}


def count(net: nn.Module, input: Input, table: Table) -> int:
    totals: dict[int, int] = {}

    def heard(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if type(module) in RECURRENT:
            raise Refusal(f"thop's count of recurrent layers is not restated, as at {place(net, module)}")
        if type(module) in HEARD:
            ops = _operations(module, first("thop", net, module, args), shape(output))
            totals[id(module)] = totals.get(id(module), 0) + ops

    listen(net, input, heard)
    return _sum(net, totals, _places(net))


def _operations(module: Any, x: Shape, out: Shape) -> int:
    kind = type(module)
    if kind in CONVOLUTIONS:
        return prod(out) * (x[1] // module.groups) * prod(module.weight.shape[2:])
    if kind is nn.Linear:
        return int(module.in_features) * prod(out)
    if kind in NORMALISATION:
        affine = getattr(module, "affine", False) or getattr(module, "elementwise_affine", False)
        return prod(x) * (4 if affine else 2)
    if kind in AVERAGE:
        return prod(out)
    if kind in ADAPTIVE:
        window = prod((a / b for a, b in zip(x[2:], out[2:], strict=True)), start=1.0)
        return int((window + 1) * prod(out))
    if kind in UPSAMPLING:
        return prod(out) * PER_ELEMENT.get(module.mode, 0)
    if kind is nn.Softmax:
        features = x[module.dim]
        return prod(x) // features * (3 * features - 1)
    return prod(x)  # PReLU


def _places(net: nn.Module) -> Counter[int]:
    """How often a module stands in the tree: each place sets the hooks once more, and each hook counts every call."""
    places = Counter((id(net),))
    for child in net.children():
        places += _places(child)
    return places


def _sum(module: nn.Module, totals: dict[int, int], places: Counter[int]) -> int:
    """Down the tree: a module that has two parents is added at both, with its calls from both."""
    own = totals.get(id(module), 0) * places[id(module)]
    return own + sum(_sum(m, totals, places) for m in module.children())
