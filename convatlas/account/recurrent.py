"""Rules for recurrent layers and cells: each step multiplies its input and its state with weights.

Letters: T steps, N batch, F features, H hidden, R what a state hands on (H, or the projection's size).
"""

from collections.abc import Iterator, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .field import UNKNOWN
from .products import backward
from .saving import asked
from .shape import ShapeTensor, dims, field_of, plain
from .walk import Rule, Walk

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}
ONEDNN = (torch.float32, torch.bfloat16, torch.float16)


class Call(NamedTuple):
    """The arguments of torch.lstm, gru, rnn_tanh and rnn_relu."""

    input: Tensor
    hx: Any
    params: Sequence[Tensor]
    has_biases: bool
    num_layers: int
    dropout: float
    train: bool
    bidirectional: bool
    batch_first: bool

    @property
    def sides(self) -> int:
        return 2 if self.bidirectional else 1

    @property
    def states(self) -> tuple[Tensor, ...]:
        return (self.hx,) if isinstance(self.hx, Tensor) else tuple(self.hx)


def layers(gates: int) -> Rule:
    """(T,N,F), or (N,T,F) with the batch first -> (T,N,R), and the last states.

    MACs of a layer and direction = T * N * (gates * H * F + gates * H * R, and H * R with a projection).
    """

    def rule(walk: Walk, *args: Any, **kwargs: Any) -> Any:
        call = Call(*args, **kwargs)
        one, two, features = dims(call.input)
        steps, batch = (two, one) if call.batch_first else (one, two)
        parts = list(weights(call.params, call.num_layers * call.sides, call.has_biases))
        handed = dims(parts[0][-1])[0] if len(parts[0]) == 3 else dims(parts[0][1])[1]
        if dims(call.states[0]) != (call.num_layers * call.sides, batch, handed) or batch * steps == 0:
            raise ValueError
        macs = back = 0
        wanting = walk.wants(call.input)
        for layer in range(call.num_layers):
            within = wanting or any(map(walk.wants, (*call.states, *call.params)))
            for part in parts[layer * call.sides : (layer + 1) * call.sides]:
                if dims(part[0])[1] != features or dims(part[0])[0] != dims(part[1])[0]:
                    raise ValueError
                more = work(walk, part, steps, batch, (wanting, within, walk.wants(call.states[0])))
                macs, back = macs + more[0], back + more[1]
            wanting, features = within, handed * call.sides
        walk.setting = {
            "gates": gates, "layers": call.num_layers, "directions": call.sides, "bias": call.has_biases,
            "batch_first": call.batch_first, "dropout": float(call.dropout) if call.train else 0.0,
        }  # fmt: skip
        shape = (batch, steps, features) if call.batch_first else (steps, batch, features)
        out = computed(walk, (call.input, *call.states, *call.params), shape, macs, back)
        if call.batch_first:  # torch turns its view; the elements stand step by step all the same
            out.steps = plain(shape, (features, batch * features, 1))
        return (out, *(walk.beside(out, dims(state)) for state in call.states))

    return rule


def work(walk: Walk, part: Sequence[Tensor], steps: int, batch: int, wants: tuple[bool, bool, bool]) -> tuple[int, int]:
    """MACs of one layer and direction, forward and backward. `wants`: whether its input, its inner states and its first
    state want a gradient."""
    feed, loop, *narrow = (steps * batch * prod(dims(w)) for w in part)
    inner = loop if wants[2] else loop - loop // steps
    back = feed * (walk.wants(part[0]) + wants[0]) + loop * walk.wants(part[1]) + inner * wants[1]
    for macs, weight in zip(narrow, part[2:], strict=True):
        back += macs * (walk.wants(weight) + wants[1])
    return feed + loop + sum(narrow), back


def weights(params: Sequence[Tensor], count: int, biased: bool) -> Iterator[list[Tensor]]:
    """Of each layer and direction: for the input, for the state, and of the projection where there is one."""
    each = len(params) // count
    for i in range(0, len(params), each):
        own = list(params[i : i + each])
        yield own[:2] + own[4 if biased else 2 :]


def cell(gates: int) -> Rule:
    """(N,F) and a state of (N,H) -> (N,H); MACs = N * gates * H * (F + H)."""

    def rule(walk: Walk, input: Tensor, hx: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Any = None, b_hh: Any = None) -> Any:
        states = tuple(hx) if gates == 4 else (hx,)
        shape, state = dims(input), dims(states[0])
        if shape[-1] != dims(w_ih)[1] or state[-1] != dims(w_hh)[1] or shape[:-1] != state[:-1]:
            raise ValueError
        feed, loop = (prod(shape[:-1]) * prod(dims(w)) for w in (w_ih, w_hh))
        back = backward(walk, feed, input, w_ih) + backward(walk, loop, states[0], w_hh)
        out = computed(walk, (input, *states, w_ih, w_hh, b_ih, b_hh), state, feed + loop, back)
        return out if gates != 4 else (out, walk.beside(out, state))

    return rule


def computed(walk: Walk, sources: Sequence[Any], shape: tuple[int, ...], macs: int, back: int) -> ShapeTensor:
    fed = any(field_of(t) is not None for t in sources if t is not None)
    return walk.compute(sources, shape, UNKNOWN if fed else None, macs, None, back)


def saved(walk: Walk, func: Any, out: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> None:
    """Listed where meta tensors do not show what the CPU keeps. oneDNN, which runs an LSTM without projections, keeps a
    workspace whose size it alone knows; an input that does not stand step by step in memory is copied for each
    direction (aten/src/ATen/native/RNN.cpp)."""
    call = Call(*args, **kwargs)
    each = len(call.params) // (call.num_layers * call.sides)
    onednn = walk.op == "lstm" and out[0].kind in ONEDNN and each == (4 if call.has_biases else 2)
    if onednn or call.batch_first or walk.node(call.input).steps is not None:
        if out[0].needs:
            walk.uncounted[f"what {walk.op} saves"] = None
    else:
        asked(walk, func, out, args, kwargs)


RULES: dict[str, Rule] = {
    **{name: layers(gates) for name, gates in GATES.items()},
    **{f"{name}_cell": cell(gates) for name, gates in GATES.items()},
}
