"""The memory of a training step and of inference: what lives at once, and its peak by batch size and precision.

The network's own forward, torch's own backward and the loss are run once on tensors without memory (torch's fake
tensors), while every tensor that comes and goes is written on a tape; so views, in-place operations, branches and the
order in which autograd lets go are torch's own. Two batch sizes give each entry a line in the batch, and the lines give
every other batch size.
"""

from collections.abc import Sequence
from typing import Any

from torch import nn

from ..errors import BadInput
from ..units import size
from .answer import Kept, Largest, Memory, Optimiser, Peak, Precision, read_memory
from .step import Plan

BATCHES = (1, 2, 4, 8, 16, 32, 64)


def memory(
    net: nn.Module,
    input: Any,
    *,
    batches: Sequence[int] = BATCHES,
    precision: Precision = "float32",
    optimiser: Optimiser | None = "momentum",
    weight_decay: bool = True,
    foreach: bool = False,
    name: str = "",
) -> Memory:
    """Predicts what one training step and inference take, without computing anything; the network is left as it was.

    `input`: (C,H,W), or a shape or tensor with the batch in front, or a list of them; the batch is replaced. "bfloat16"
    and "float16" hold all in that type, "amp" is autocast to bfloat16 around float32 weights. `weight_decay` and
    `foreach` (torch's choice on a GPU) decide the temporaries of the optimiser's step. Raises BadInput where the input
    does not fit or the forward needs values, and UnknownName for another precision or optimiser.
    """
    for batch in batches:
        _whole("batch", batch)
    plan = Plan(net, input, precision, optimiser, weight_decay, foreach)
    train, infer = plan.lines(True), plan.lines(False)
    peaks = tuple(
        Peak(n, plan.input_bytes(n), train.kept(n), *train.peak(n), *infer.peak(n)) for n in sorted(set(batches))
    )
    layers = tuple(Kept(path, *line) for path, line in train.layers.items() if line != (0, 0))
    shapes = tuple(tuple(s[1:]) for s, _ in plan.inputs)
    title = name or type(net).__name__
    return Memory(title, shapes, precision, optimiser, *plan.fixed(), layers, peaks)


def fit(
    net: nn.Module,
    input: Any,
    budget_bytes: int,
    *,
    training: bool = True,
    precision: Precision = "float32",
    optimiser: Optimiser | None = "momentum",
    weight_decay: bool = True,
    foreach: bool = False,
) -> Largest:
    """The largest batch whose peak is at most the budget; 0, with a `reason`, where a batch of one exceeds it.

    Found on the lines in the batch, and checked by going through the step at that batch and one more. Raises as
    `memory` does.
    """
    _whole("budget_bytes", budget_bytes)
    plan = Plan(net, input, precision, optimiser, weight_decay, foreach)
    lines = plan.lines(training)

    def fits(n: int) -> bool:
        return lines.peak(n)[0] <= budget_bytes

    low, high = 0, 1
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    while low > 1 and plan.tape(low, training).peak()[0] > budget_bytes:
        low -= 1
    while low and plan.tape(low + 1, training).peak()[0] <= budget_bytes:
        low += 1
    answer = Largest(low)
    if not low:
        least, place, _ = lines.peak(1)
        answer.reason = f"a batch of 1 takes {size(least)} in the {place}, and the budget is {size(budget_bytes)}"
    return answer


def _whole(name: str, n: object) -> None:
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise BadInput(f"{name} {n!r} is no size; give a whole number above zero")


__all__ = ["Kept", "Largest", "Memory", "Peak", "fit", "memory", "read_memory"]
