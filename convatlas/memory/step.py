"""A training step and inference on tensors without memory, at two batch sizes and so at all."""

import copy
from contextlib import nullcontext
from math import prod
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._pytree import tree_leaves

from ..account import account
from ..account.untouched import untouched
from ..account.walk import one_line
from ..errors import BadInput, ConvAtlasError, UnknownName
from ..uncollected import uncollected
from .answer import Optimiser, Precision
from .tape import Entry, Tape

TRIED = (2, 3)  # batch normalisation cannot train on one value a channel
KEPT = {"sgd": 0, "momentum": 1, "adam": 2}  # copies of the parameters in the optimiser's state


class Lines:
    """Two tapes of the same step, which give each entry a line in the batch."""

    def __init__(self, one: Tape, two: Tape, ends: tuple[dict[str, int], dict[str, int]]):
        a, b = TRIED
        self.pairs = list(zip(one.entries, two.entries, strict=True))
        self.layers: dict[str, tuple[int, int]] = {}
        for path in ends[0]:
            each = (ends[1][path] - ends[0][path]) // (b - a)
            self.layers[path] = each, ends[0][path] - a * each

    def kept(self, n: int) -> int:
        return sum(n * each + fixed for each, fixed in self.layers.values())

    def peak(self, n: int) -> tuple[int, str, int]:
        entries = [_between(*pair, n) for pair in self.pairs]
        top = max(entries, key=Entry.bytes)
        return top.bytes(), top.place, max(e.live for e in entries)


def _line(first: int, second: int, n: int) -> int:
    a, b = TRIED
    return first + (second - first) * (n - a) // (b - a)


def _between(one: Entry, two: Entry, n: int) -> Entry:
    c, d = one.convolution, two.convolution
    if c and d:
        x, y = ((_line(s[0], t[0], n), *s[1:]) for s, t in ((c.input, d.input), (c.output, d.output)))
        c = c._replace(input=x, output=y)
    return Entry(one.place, _line(one.live, two.live, n), _line(one.made, two.made, n), c)


class Plan:
    """A network, its input and how it is trained: makes tapes of its step at any batch size."""

    def __init__(
        self,
        net: nn.Module,
        input: Any,
        precision: Precision,
        optimiser: Optimiser | None,
        weight_decay: bool,
        foreach: bool,
    ):
        if precision not in get_args(Precision):
            raise UnknownName("precision", str(precision), get_args(Precision))
        if optimiser is not None and optimiser not in KEPT:
            raise UnknownName("optimiser", str(optimiser), KEPT)
        self.net, self.optimiser, self.decay, self.foreach = net, optimiser, weight_decay, foreach
        self.amp = precision == "amp"
        self.kind = torch.float32 if self.amp else getattr(torch, precision)
        table = account(net, input)  # what cannot be walked is refused here, with its place
        given = input if isinstance(input, (list, tuple)) and not isinstance(input[0], int) else [input]
        kinds = [t.dtype if isinstance(t, Tensor) else self.kind for t in given]
        self.inputs = [(s, self.kind if k.is_floating_point else k) for s, k in zip(table.input, kinds, strict=True)]
        self.formats = [_format(t) for t in given]
        trained = [p for p in net.parameters() if p.requires_grad]
        self.sizes = [self._bytes(p) for p in trained]

    def _bytes(self, t: Tensor) -> int:
        return t.numel() * (self.kind if t.is_floating_point() else t.dtype).itemsize

    def fixed(self) -> tuple[int, int, int, int]:
        """Bytes of weights, buffers, gradients and the optimiser's state; Adam counts steps in a float a parameter."""
        gradients = sum(self.sizes)
        return (
            sum(map(self._bytes, self.net.parameters())),
            sum(map(self._bytes, self.net.buffers())),
            gradients,
            self._state(),
        )

    def _state(self) -> int:
        if self.optimiser is None:
            return 0
        return KEPT[self.optimiser] * sum(self.sizes) + 4 * len(self.sizes) * (self.optimiser == "adam")

    def _temporary(self) -> int:
        """What the step makes for a moment: the decayed gradient, and Adam's denominator twice (torch/optim/adam.py).

        One parameter after the other, where the denominator of the one before is still held; or with foreach for all
        at once, where gradients go before the denominator comes.
        """
        if self.optimiser is None or not self.sizes:
            return 0
        adam = self.optimiser == "adam"
        if self.foreach:
            return max(self.decay, adam) * sum(self.sizes)
        before = [0, *self.sizes]
        return max((self.decay + 2 * adam) * now + adam * last for last, now in zip(before, self.sizes, strict=False))

    def input_bytes(self, n: int) -> int:
        return sum(n * prod(s[1:]) * kind.itemsize for s, kind in self.inputs) + 8 * n

    def lines(self, training: bool) -> Lines:
        one, two = (self.tape(n, training) for n in TRIED)
        if [e.place for e in one.entries] != [e.place for e in two.entries]:
            raise BadInput(f"batches of {TRIED[0]} and {TRIED[1]} do not take the same way through {type(self.net)}")
        return Lines(one, two, (one.end, two.end))

    def tape(self, n: int, training: bool) -> Tape:
        tape = Tape()
        try:
            with uncollected(), untouched(()), FakeTensorMode(allow_non_fake_inputs=True):
                self._step(tape, n, training)
        except ConvAtlasError:
            raise
        except Exception as error:
            raise BadInput(f"{tape.place()}: {type(error).__name__}: {one_line(str(error))}") from error
        return tape

    def _step(self, tape: Tape, n: int, training: bool) -> None:
        net = self._stand_in(training)
        for path, module in net.named_modules():
            module.register_forward_pre_hook(lambda *_, path=path: tape.stack.append(path))
            module.register_forward_hook(lambda *_: (tape.stack.pop(), None)[1], always_call=True)
        images = [
            torch.empty((n, *s[1:]), dtype=kind, memory_format=layout, device="cpu")
            for (s, kind), layout in zip(self.inputs, self.formats, strict=True)
        ]
        labels = torch.empty(n, dtype=torch.int64, device="cpu")
        cast = torch.autocast("cpu", torch.bfloat16) if self.amp else nullcontext()
        tape.give([*net.parameters(), *net.buffers(), *images, labels])
        if training:
            tape.live += self._state()
        with tape, torch.set_grad_enabled(training):
            with cast:
                out = net(*images)
                loss = _loss(out, labels) if training else None
            tape.end = tape.kept()
            if loss is not None and loss.requires_grad:
                tape.backward = True
                loss.backward()
                tape.write("optimiser's step", 0, None, self._temporary())
        del out, loss

    def _stand_in(self, training: bool) -> nn.Module:
        """A copy of the network whose tensors have no memory."""
        memo: dict[int, Any] = {}
        for module in self.net.modules():
            owned = *module._parameters.values(), *module._buffers.values(), *module.__dict__.values()
            for t in owned:
                if isinstance(t, Tensor) and id(t) not in memo:
                    kind = self.kind if t.is_floating_point() else t.dtype
                    fake = torch.empty(t.shape, dtype=kind, device="cpu")
                    memo[id(t)] = nn.Parameter(fake, t.requires_grad) if isinstance(t, nn.Parameter) else fake
        return copy.deepcopy(self.net, memo).train(training)


def _format(given: Any) -> torch.memory_format:
    if isinstance(given, Tensor) and given.dim() == 4 and not given.is_contiguous():
        return torch.channels_last
    return torch.contiguous_format


def _loss(out: Any, labels: Tensor) -> Tensor:
    """Cross-entropy of all logits (auxiliary heads too); the mean of results of another shape."""
    found = [t for t in tree_leaves(out) if isinstance(t, Tensor) and t.is_floating_point()]
    terms = [F.cross_entropy(t, labels) if t.dim() == 2 and len(t) == len(labels) else t.mean() for t in found]
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
