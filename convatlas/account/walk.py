"""The walk: a forward pass in which every torch function is answered by a rule on shapes, and each answer is a row.

A torch function mode sees all calls of its thread: functional ones, operators, those on parameters or buffers alone.
None of them runs, but for a function without a rule, which runs on meta tensors (no memory, no values).
"""

import sys
from collections.abc import Callable, Iterable, Sequence
from math import prod
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from ..errors import BadInput, ConvAtlasError
from ..table import Row
from ..units import shape as times
from .field import UNKNOWN, Field, Shape, report
from .shape import ShapeTensor, dims, new, plain

Rule = Callable[..., Any]
# Files whose functions carry calls from a module to the walk and are no module's methods.
OUTSIDE = (str(Path(__file__).parent), torch.overrides.__file__, torch.nn.functional.__file__, torch._tensor.__file__)
_blank = object.__new__


class Clash(Exception):
    """A rule's own account of why shapes do not fit."""


class NeedsValues(Exception):
    pass


class Walk(TorchFunctionMode):
    """Rows of one forward pass. `rules` answers (rule, name of the operation) for a function; `free` holds the
    names of functions that do no multiply-adds by the convention, though they have no rule."""

    def __init__(self, modules: dict[str, nn.Module], rules: dict[Any, tuple[Rule, str]], free: frozenset[str]):
        super().__init__()
        self.rules, self.free = rules, free
        self.paths = {id(m): path for path, m in modules.items()}
        self._notes: list[tuple[Any, ...]] = []
        self.uncounted: dict[str, None] = {}
        self.op = ""
        owned = [p for m in modules.values() for p in m._parameters.values() if p is not None]
        self.waiting = {id(p): p.numel() for p in owned}  # elements of parameters that no operation has used yet
        self._lifted: dict[int, tuple[Tensor, ShapeTensor]] = {}
        self._first: dict[int, tuple[str, CodeType]] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            rule, self.op = self.rules[func]
        except KeyError:
            return self.without_rule(func, args, kwargs or {})
        try:
            return rule(self, *args, **kwargs) if kwargs else rule(self, *args)
        except ConvAtlasError:
            raise
        except NeedsValues:
            raise self.needs_values() from None
        except Clash as clash:
            raise self.refusal(args, kwargs or {}, str(clash)) from None
        except Exception:  # the call is wrong or unusual: torch itself has the last word
            return self.without_rule(func, args, kwargs or {})

    # ---- What rules call -----------------------------------------------------------------------------------------

    def compute(
        self, sources: Sequence[Any], shape: Shape, field: Field, macs: int = 0, kind: torch.dtype | None = None
    ) -> ShapeTensor:
        """A row for an operation that fills a new tensor."""
        inputs, params, fed, learned = self._use(sources)
        first = sources[0]
        out = new(shape, kind or first.dtype, first.device)
        if learned:
            out.learned = True
        if fed:
            out.fed = True
            out.field = field
        elif not learned and not macs:
            return out
        self._row(inputs, params, out, macs, prod(shape))
        return out

    def overwrite(self, target: ShapeTensor, sources: Sequence[Any], field: Field) -> ShapeTensor:
        """A row for an operation that fills `target`, an existing tensor; it makes no activations."""
        inputs, params, fed, learned = self._use(sources)
        target.learned |= learned
        if fed and target.field is not field:
            target.field = field
            if target.base is not None:  # the part that was overwritten may see more than the rest
                target.base.field, target.base.fed = UNKNOWN, True
        if fed:
            target.fed = True
        if fed or learned:
            self._row(inputs, params, target, 0, 0)
        return target

    def view(self, x: ShapeTensor, shape: Shape, field: Field, steps: Shape | None) -> ShapeTensor:
        """The same elements in another shape: no row."""
        out = new(shape, x.kind, x.place, steps if steps is None else plain(shape, steps))
        out.field, out.fed, out.learned, out.owes = field, x.fed, x.learned, x.owes
        out.base = x if x.base is None else x.base
        return out

    def node(self, t: Tensor) -> ShapeTensor:
        """A parameter, buffer or other real tensor as a shape; the same one at each call, so that writes to it stay."""
        if type(t) is ShapeTensor:
            return t
        found = self._lifted.get(id(t))
        if found is not None:
            return found[1]
        shape = tuple(t.shape)
        lifted = new(shape, t.dtype, t.device, None if t.is_contiguous() else plain(shape, t.stride()))
        lifted.learned = id(t) in self.waiting
        if lifted.learned:
            lifted.owes = (t,)
        self._lifted[id(t)] = (t, lifted)
        return lifted

    # ---- Rows ----------------------------------------------------------------------------------------------------

    def _use(self, sources: Sequence[Any]) -> tuple[list[Shape], int, bool, bool]:
        """Shapes that come from the data, parameters first used here, and whether data and parameters take part."""
        inputs: list[Shape] = []
        params, fed, learned, waiting = 0, False, False, self.waiting
        for t in sources:
            if type(t) is ShapeTensor:
                if t.fed:
                    fed = True
                    inputs.append(t.dims)
                if t.learned:
                    learned = True
                for p in t.owes:
                    params += waiting[id(p)]
                    waiting[id(p)] = 0
            else:
                first_use = waiting.get(id(t))
                if first_use is not None:
                    params += first_use
                    waiting[id(t)] = 0
                    learned = True
        return inputs, params, fed, learned

    def _row(self, inputs: list[Shape], params: int, out: ShapeTensor, macs: int, activations: int) -> None:
        place = self.where(5)  # past _row, compute, the rule and the handler
        self._notes.append((place, self.op, inputs, out.dims, params, macs, activations, out.kind.itemsize, out.field))

    def rows(self) -> tuple[Row, ...]:
        """What was noted, with fields and strides; most operations pass a field on, so each is worked out once."""
        seen: dict[tuple[int, Shape], tuple[Shape | None, Shape | None]] = {}
        out = []
        for path, op, inputs, shape, params, macs, activations, itemsize, field in self._notes:
            key = id(field), shape
            held = seen.get(key)
            if held is None:
                held = seen[key] = report(field, shape)
            row = _blank(Row)  # filled at once: a frozen dataclass's own initialiser takes a tenth of the whole account
            row.__dict__.update(
                path=path,
                op=op,
                inputs=tuple(inputs),
                output=shape,
                params=params,
                macs=macs,
                activations=activations,
                activation_bytes=activations * itemsize,
                field=held[0],
                stride=held[1],
            )
            out.append(row)
        return tuple(out)

    def where(self, depth: int = 1) -> str:
        """Path of the innermost module that the call came from, read from the stack: its methods have it as first
        argument. Hooks would say the same, but torch's global ones are every thread's, and cost twice this walk."""
        frame: FrameType | None = sys._getframe(depth)
        while frame is not None:
            code = frame.f_code
            first = self._first.get(id(code))  # by id: hashing code goes through its constants
            if first is None:
                outside = not code.co_argcount or code.co_filename.startswith(OUTSIDE)
                first = self._first[id(code)] = ("" if outside else code.co_varnames[0], code)
            if first[0]:
                path = self.paths.get(id(frame.f_locals.get(first[0])))
                if path is not None:
                    return path
            frame = frame.f_back
        return ""

    # ---- Functions without a rule --------------------------------------------------------------------------------

    def without_rule(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """The answer that torch gives on meta tensors; listed as uncounted unless the function is known to be free."""
        name = str(getattr(func, "__name__", None) or func)
        self.op = name.strip("_")
        if not any(isinstance(t, Tensor) for t in _leaves((args, kwargs))):
            with torch._C.DisableTorchFunction():
                return func(*args, **kwargs)
        metas: dict[int, tuple[ShapeTensor, Tensor]] = {}
        before = len(self._notes)
        with torch._C.DisableTorchFunction():
            try:
                result = func(*_swap(args, self._to_meta(metas)), **_swap(kwargs, self._to_meta(metas)))
            except Exception as error:
                raise self._meta_refusal(func, args, kwargs, error) from error
        answer = self._from_meta(result, metas)
        if self.op not in self.free and len(self._notes) > before:
            self.uncounted[resolve_name(func) or name] = None
        return answer

    def _to_meta(self, metas: dict[int, tuple[ShapeTensor, Tensor]]) -> Callable[[Any], Any]:
        def swap(thing: Any) -> Any:
            if isinstance(thing, torch.device):
                return torch.device("meta")
            if not isinstance(thing, Tensor):
                return thing
            x = self.node(thing)
            if id(x) not in metas:
                steps = x.steps
                meta = (
                    torch.empty(x.dims, dtype=x.kind, device="meta")
                    if steps is None
                    else torch.empty_strided(x.dims, steps, dtype=x.kind, device="meta")
                )
                metas[id(x)] = (x, meta)
            return metas[id(x)][1]

        return swap

    def _from_meta(self, result: Any, metas: dict[int, tuple[ShapeTensor, Tensor]]) -> Any:
        """Results that are inputs stay what they were, views stay views; of the new ones the first bears the row."""
        sources = [x for x, _ in metas.values()]
        fed = any(x.fed for x in sources)
        memory = {m.untyped_storage()._cdata: x for x, m in metas.values()}
        known = {id(m): x for x, m in metas.values()}
        outs = [t for t in _leaves(result) if isinstance(t, Tensor)]
        fresh = [t for t in outs if id(t) not in known and t.untyped_storage()._cdata not in memory]
        size = sum(t.numel() for t in fresh)
        inputs, params, _, learned = self._use(sources) if fresh else ([], 0, fed, False)
        field: Field = UNKNOWN if fed else None
        first = True

        def swap(t: Any) -> Any:
            nonlocal first
            if not isinstance(t, Tensor):
                return t
            shape, kind = tuple(t.shape), t.dtype
            source = known.get(id(t))
            if source is not None:
                source.dims, source.kind, source.steps = shape, kind, plain(shape, t.stride())
                return source if not fed else self.overwrite(source, sources, UNKNOWN)
            shown = memory.get(t.untyped_storage()._cdata)
            if shown is not None:
                return self.view(shown, shape, UNKNOWN if shown.fed else None, t.stride())
            out = new(shape, kind, sources[0].place if sources else torch.device("cpu"), plain(shape, t.stride()))
            out.fed, out.learned, out.field = fed, learned, field
            if first and (fed or learned):
                self._row(inputs, params, out, 0, size)
            first = False
            return out

        return _swap(result, swap)

    # ---- Refusals ------------------------------------------------------------------------------------------------

    def place(self) -> str:
        return self.where() or "the network's own forward"

    def refusal(self, args: Sequence[Any], kwargs: dict[str, Any], reason: str) -> BadInput:
        shapes = " and ".join(
            times(dims(t)) or "a single number" for t in _leaves((args, kwargs)) if isinstance(t, Tensor)
        )
        return BadInput(f"at {self.place()} ({self.op}): {shapes} cannot be taken: {one_line(reason)}")

    def needs_values(self) -> BadInput:
        return BadInput(
            f"at {self.place()} ({self.op}): the forward pass reads the values of a tensor, and an account has shapes "
            "only; account for the modules before and after it, or let the forward depend on shapes"
        )

    def _meta_refusal(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], error: Exception) -> BadInput:
        if isinstance(error, NotImplementedError) or "meta tensor" in str(error):
            return self.needs_values()
        return self.refusal(args, kwargs, str(error))


def one_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else "no reason given"


def _leaves(thing: Any) -> Iterable[Any]:
    if isinstance(thing, (tuple, list)):
        for part in thing:
            yield from _leaves(part)
    elif isinstance(thing, dict):
        for part in thing.values():
            yield from _leaves(part)
    else:
        yield thing


def _swap(thing: Any, swap: Callable[[Any], Any]) -> Any:
    """The same nest of tuples, lists and dicts with its leaves exchanged."""
    if isinstance(thing, torch.Size):
        return thing
    if isinstance(thing, (tuple, list)):
        parts = [_swap(part, swap) for part in thing]
        kind = type(thing)
        return kind(*parts) if hasattr(thing, "_fields") else kind(parts)
    if isinstance(thing, dict):
        return {key: _swap(part, swap) for key, part in thing.items()}
    return swap(thing)
