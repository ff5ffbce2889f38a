"""torchinfo 1.8: a hook a module; a sum over the calls of modules that have no children (layer_info.py)."""

from math import prod
from typing import Any

from torch import Tensor, nn

from ..account import Input
from ..table import Shape, Table
from .listening import Refusal, listen, place, shape


def count(net: nn.Module, input: Input, table: Table) -> int:
    total = 0

    def heard(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        nonlocal total
        if any(module.children()):  # its own words: a child that is an empty Sequential counts as none
            return
        own = [(name, p.numel()) for name, p in module.named_parameters() if "weight" in name or "bias" in name]
        if not own:
            return
        if any(name.endswith("_orig") for name, _ in own):
            raise Refusal(
                f"torchinfo reads the mask of the pruned {place(net, module)}, and an account has no values; "
                "make the pruning permanent first"
            )
        out = _size(net, module, output)
        for name, elements in own:
            if name not in ("weight", "bias"):
                total += prod(out[:2]) * elements
            elif "Conv" in type(module).__name__:
                total += elements * prod(out[:1] + out[2:])
            else:
                total += out[0] * elements

    listen(net, input, heard)
    return total


def _size(net: nn.Module, module: nn.Module, output: Any) -> Shape:
    while isinstance(output, (tuple, list)) and output and isinstance(output[0], Tensor):
        output = output[0]
    if not isinstance(output, Tensor) or not output.dim():
        raise Refusal(f"what torchinfo takes for the output's size of {place(net, module)} is not known here")
    return shape(output)
