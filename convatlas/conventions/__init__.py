"""Other tools' totals for the same network, to the last digit: what each counts, worked out on shapes.

The tools disagree by convention (biases, normalisation, pooling) and by what they overlook. What they overlook is left
out here as well; where it cannot be told what a tool would print, the answer is a refusal and never a near number.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from ..account import Input, account
from ..errors import UnknownName
from ..table import Table
from . import fvcore, ptflops, thop, torchinfo
from .listening import Refusal, unknown


@dataclass(frozen=True)
class Tool:
    """A tool whose total can be restated. `sentence` says what its total counts, and how it was called."""

    sentence: str
    count: Callable[[nn.Module, Input, Table], int]


def restate(net: nn.Module, input: Input, tool: str) -> int:
    """The total that `tool` prints for this network at this input, in evaluation mode. `input` as `account` takes it.

    TOOLS[tool].sentence says what the total counts. Hooks are set on the network meanwhile, as the tools themselves
    do, and taken away. Raises UnknownName; Refusal (a BadInput) where the tool itself stops, or where it cannot be told
    what it prints; and what `account` raises.
    """
    if tool not in TOOLS:
        raise UnknownName("tool", tool, TOOLS)
    table = account(net, input)
    if tool != "paper" and any(m.training for m in net.modules()):
        raise Refusal(f"{tool} is restated in evaluation mode and the network is in training mode; call .eval() first")
    return TOOLS[tool].count(net, input, table)


def _paper(net: nn.Module, input: Input, table: Table) -> int:
    return table.totals.macs


VECTORS = frozenset(("mv", "dot", "addmv"))


def _torch(net: nn.Module, input: Input, table: Table) -> int:
    if names := unknown(table):
        raise Refusal(f"what torch counts of {names} is not known here; account for the rest alone")
    for row in table.rows:
        vector = row.op in ("matmul", "linear") and len(row.output) < max(map(len, row.inputs), default=0)
        if row.macs and (row.op in VECTORS or vector or min(map(len, row.inputs), default=2) < 2):
            raise Refusal(
                f"torch's counter overlooks some products with a vector, as at {row.path or 'the top'} ({row.op}); "
                "give the vector a dimension of one"
            )
    return 2 * table.totals.macs


TOOLS: dict[str, Tool] = {
    "paper": Tool(
        "MACs of convolutions, linear layers, matrix products and attention; nothing else is counted", _paper
    ),
    "torch": Tool(
        "torch.utils.flop_counter.FlopCounterMode on meta tensors or a GPU: two for every MAC, nothing else; on the "
        "CPU it overlooks fused attention in silence",
        _torch,
    ),
    "fvcore": Tool(
        "fvcore's FlopCountAnalysis(...).total(): MACs, and 2 an element for batch normalisation, 5 for other "
        "normalisation, 1 an input element for 2-D adaptive average pooling, 1 or 4 an output element for resizing; "
        "no biases, and fused attention is overlooked",
        fvcore.count,
    ),
    "thop": Tool(
        "thop.profile: MACs of convolution and linear modules, 4 an element for affine normalisation (2 without), and "
        "average pooling; functional calls and attention are overlooked",
        thop.count,
    ),
    "ptflops": Tool(
        "ptflops.get_model_complexity_info with its default backend: MACs and biases of modules, 1 or 2 an element for "
        "normalisation, 1 for activation functions and pooling, which are counted twice where a module calls the "
        "functional form",
        ptflops.count,
    ),
    "torchinfo": Tool(
        "torchinfo.summary(...).total_mult_adds: parameters of convolution modules times output pixels, of all other "
        "modules without children times the batch; functional calls, and tokens or pixels of linear layers, are "
        "overlooked",
        torchinfo.count,
    ),
}

__all__ = ["TOOLS", "Refusal", "Tool", "restate"]
