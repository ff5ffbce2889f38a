"""The account of a forward that reads values: it is run on the CPU, and each call is recorded by its rule on shapes."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import resolve_name
from torch.utils.weak import WeakTensorKeyDictionary

from ..errors import BadInput, ConvAtlasError
from .field import UNKNOWN, Field
from .meta import leaves, swapped
from .shape import ShapeTensor, new
from .walk import Walk


class Run(Walk):
    """A walk on values. Each tensor has a shape beside it, on which the rules work; no gradient is computed, but rows
    say what one would cost. Tensors that are not made here are as before once `leave` was called."""

    def __init__(self, *args: Any):
        super().__init__(*args)
        self.twins: Any = WeakTensorKeyDictionary()
        self.kept: dict[int, tuple[Tensor, Tensor, Tensor, int]] = {}  # a tensor, its memory, a copy of it, its version

    def enter(self, x: ShapeTensor, real: Tensor) -> Tensor:
        self.twins[real] = x
        return real

    def leave(self) -> None:
        with torch.no_grad():
            for t, memory, content, version in self.kept.values():
                t.data = memory
                memory.copy_(content)
                torch._C._autograd._unsafe_set_version_counter((t,), (version,))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = str(getattr(func, "__name__", ""))
        given = [t for t in leaves((args, kwargs)) if isinstance(t, Tensor)]
        shapes = swapped(tuple(args), self._twin), swapped(kwargs, self._twin)
        setting = name == "__set__" and func != Tensor.data.__set__  # type: ignore[attr-defined]
        if (setting or name == "requires_grad_") and self._outside(args[0]) is not None:
            return None if setting else args[0]  # it would change the network's own tensor
        if "out" in kwargs or (name.endswith("_") and not name.startswith("__")) or name.startswith(("__i", "__set")):
            self._keep([kwargs["out"]] if "out" in kwargs else given[:1])
        if not given:
            result = func(*args, **kwargs)  # it may switch the gradient mode, so that no mode is set around it
            if not any(isinstance(t, Tensor) for t in leaves(result)):
                return result
        else:
            try:
                with torch.no_grad():
                    result = func(*args, **kwargs)
            except Exception as error:
                raise self._failed(func, types, shapes, error) from error
        self._record(func, types, shapes, result)
        return result

    def _failed(self, func: Any, types: Any, shapes: tuple[Any, dict[str, Any]], error: Exception) -> BadInput:
        try:
            super().__torch_function__(func, types, *shapes)
        except BadInput as refusal:
            return refusal
        return self.refusal(*shapes, str(error))

    def _record(self, func: Any, types: Any, shapes: tuple[Any, dict[str, Any]], result: Any) -> None:
        made = [t for t in leaves(result) if isinstance(t, Tensor)]
        try:
            answer = super().__torch_function__(func, types, *shapes)
        except ConvAtlasError:  # a function that reads values
            answer = None
        found = [self.node(t) for t in leaves(answer) if isinstance(t, Tensor)]
        if [tuple(t.shape) for t in made] != [t.dims for t in found]:
            found = self._by_hand(func, shapes, made)
        for t, x in zip(made, found, strict=True):
            if self._outside(t) is None:
                self.twins[t] = x

    def _by_hand(self, func: Any, shapes: tuple[Any, dict[str, Any]], made: list[Tensor]) -> list[ShapeTensor]:
        """Results whose shape depends on values: nonzero, indexing by a mask."""
        inputs, params, fed, learned, _ = self._use([t for t in leaves(shapes) if isinstance(t, ShapeTensor)])
        field: Field = UNKNOWN if fed else None
        out = []
        for t in made:
            x = new(tuple(t.shape), t.dtype, t.device)
            x.fed, x.learned, x.field = fed, learned, field
            out.append(x)
        if out and (fed or learned):
            self.note(self.where(), inputs, params, out[0], 0, sum(prod(x.dims) for x in out), 0)
            if func not in self.rules and self.op not in self.free:
                self.uncounted[resolve_name(func) or self.op] = None
        return out

    def _twin(self, t: Any) -> Any:
        if not isinstance(t, Tensor):
            return t
        twin = self.twins.get(t)
        return self.node(t) if twin is None else twin

    def _outside(self, t: Tensor) -> Tensor | None:
        """The parameter, buffer or constant that a tensor is, or shows a part of."""
        twin = self.twins.get(t)
        if twin is None:
            return t if id(t) in self._lifted else None
        stood: Tensor | None = (twin if twin.base is None else twin.base).stood_for
        return stood

    def _keep(self, targets: list[Any]) -> None:
        """What is overwritten and is not this run's own is copied first."""
        for t in leaves(targets):
            owner = self._outside(t)
            if owner is not None and id(owner) not in self.kept:
                self.kept[id(owner)] = owner, owner.data, owner.detach().clone(), owner._version


def values(given: Any, x: ShapeTensor) -> Tensor:
    """The given tensor's own values, or zeros."""
    if isinstance(given, Tensor) and given.device.type != "meta":
        return given.detach().to("cpu", copy=True)
    return torch.zeros(x.dims, dtype=x.kind)


@contextmanager
def standing_in(modules: dict[str, nn.Module]) -> Iterator[None]:
    """Copies of all buffers instead of them meanwhile (batch statistics are written to), and the same random numbers
    afterwards. Raises BadInput where weights are not on the CPU."""
    for path, m in modules.items():
        for t in (*m._parameters.values(), *m._buffers.values()):
            if t is not None and t.device.type != "cpu":
                raise BadInput(
                    f"at {path or 'the network'}: weights on {t.device.type!r} cannot be run on the CPU; "
                    "build the network on the CPU, or move it there"
                )
    state = torch.get_rng_state()
    own = [(m._buffers, name, b) for m in modules.values() for name, b in m._buffers.items() if b is not None]
    copies = {id(b): b.clone() for _, _, b in own}
    try:
        for buffers, name, b in own:
            buffers[name] = copies[id(b)]
        yield
    finally:
        for buffers, name, b in own:
            buffers[name] = b
        torch.set_rng_state(state)
