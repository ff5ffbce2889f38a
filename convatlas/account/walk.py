"""The walk: a forward pass in which every torch function is answered by a rule on shapes, and each answer is a row.

A torch function mode sees all calls of its thread: functional ones, operators, those on parameters or buffers alone.
None of them runs, but for a function without a rule, which runs on meta tensors (no memory, no values).
"""

import sys
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, resolve_name

from ..errors import BadInput, ConvAtlasError
from ..table import Row, Setting
from .field import UNKNOWN, Field, Shape, report
from .mends import misfit
from .meta import leaves, run, swapped
from .settings import setting_of
from .shape import ShapeTensor, new, plain

Rule = Callable[..., Any]
Saves = Callable[..., None]
# For a function: its rule, the operation's name, what it saves for backward (None: nothing), names of its settings.
Entry = tuple[Rule, str, Saves | None, tuple[str, ...]]
# Files whose functions carry calls from a module to the walk and are no module's methods.
OUTSIDE = (str(Path(__file__).parent), torch.overrides.__file__, torch.nn.functional.__file__, torch._tensor.__file__)
_blank, _fill = object.__new__, object.__setattr__
_grad = torch.is_grad_enabled


class Clash(Exception):
    """A rule's own account of why shapes do not fit."""


class NeedsValues(Exception):
    pass


class Walk(TorchFunctionMode):
    """Rows of one forward pass. `rules` answers with an entry for a function; `free` holds the names of functions that
    do no multiply-adds by the convention, though they have no rule."""

    def __init__(self, modules: dict[str, nn.Module], rules: dict[Any, Entry], free: frozenset[str]):
        super().__init__()
        self.rules, self.free = rules, free
        self.paths = {id(m): path for path, m in modules.items()}
        self.notes: list[dict[str, Any]] = []
        self.uncounted: dict[str, None] = {}
        self.op = ""
        self.setting: Setting | None = None  # of the call at hand, where its rule says it
        self.depth = 0  # of the stack of modes, with this one on top
        self.at: str | None = None  # path of the module that is answered for without its forward
        self._owned = [p for m in modules.values() for p in m._parameters.values() if p is not None]
        self.waiting = {id(p): p.numel() for p in self._owned}  # elements of parameters that no operation has used yet
        self._lifted: dict[int, tuple[Tensor, ShapeTensor]] = {}
        self._first: dict[int, tuple[str, CodeType]] = {}
        self._kept = 0  # bytes saved by calls that made no row yet
        self.held: dict[int, tuple[Tensor, int]] = {}  # buffers and constants that autograd keeps, and by which row

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            rule, self.op, saves, names = self.rules[func]
        except KeyError:
            return self.without_rule(func, args, kwargs or {})
        known = len(self.notes)
        try:
            out = rule(self, *args, **kwargs) if kwargs else rule(self, *args)
        except ConvAtlasError:
            raise
        except NeedsValues:
            raise self.needs_values() from None
        except Clash as clash:
            raise self.refusal(args, kwargs or {}, str(clash)) from None
        except Exception:  # the call is wrong or unusual: torch itself has the last word
            return self.without_rule(func, args, kwargs or {})
        if saves is not None:
            saves(self, func, out, args, kwargs or {})
            if len(self.notes) > known:
                note = self.notes[-1]
                if note["setting"] is None:
                    note["setting"] = setting_of(names, args, kwargs or {})
                self.charge()
        return out

    # ---- What rules call -----------------------------------------------------------------------------------------

    def compute(
        self,
        sources: Sequence[Any],
        shape: Shape,
        field: Field,
        macs: int = 0,
        kind: torch.dtype | None = None,
        back: int = 0,
    ) -> ShapeTensor:
        """A row for an operation that fills a new tensor. `back`: multiply-adds of its backward pass."""
        inputs, params, fed, learned, needs = self._use(sources)
        first = sources[0]
        out = new(shape, kind or first.dtype, first.device)
        if needs and (out.kind.is_floating_point or out.kind.is_complex):
            out.needs = _grad()
        if learned:
            out.learned = True
        if fed:
            out.fed = True
            out.field = field
        elif not learned and not macs:
            return out
        self._row(inputs, params, out, macs, prod(shape), back if out.needs else 0)
        return out

    def overwrite(self, target: ShapeTensor, sources: Sequence[Any], field: Field) -> ShapeTensor:
        """A row for an operation that fills `target`, an existing tensor; it makes no activations."""
        inputs, params, fed, learned, needs = self._use(sources)
        target.learned |= learned
        if needs and _grad() and not target.needs:
            target.needs = True
            if target.base is not None:
                target.base.needs = True
        if fed and target.field is not field:
            target.field = field
            if target.base is not None:  # the part that was overwritten may see more than the rest
                target.base.field, target.base.fed = UNKNOWN, True
        if fed:
            target.fed = True
        if fed or learned:
            self._row(inputs, params, target, 0, 0, 0)
        return target

    def view(self, x: ShapeTensor, shape: Shape, field: Field, steps: Shape | None) -> ShapeTensor:
        """The same elements in another shape: no row."""
        out = new(shape, x.kind, x.place, steps if steps is None else plain(shape, steps))
        out.field, out.fed, out.learned, out.owes = field, x.fed, x.learned, x.owes
        out.needs = x.needs and _grad()
        out.base = x if x.base is None else x.base
        return out

    def beside(self, x: ShapeTensor, shape: Shape, kind: torch.dtype | None = None) -> ShapeTensor:
        """A second result of the operation that made `x`, in memory of its own: no row."""
        out = new(shape, kind or x.kind, x.place)
        out.field, out.fed, out.learned = x.field, x.fed, x.learned
        out.needs = x.needs and out.kind.is_floating_point
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
        lifted.needs, lifted.stood_for = t.requires_grad, t
        if lifted.learned:
            lifted.owes = (t,)
        self._lifted[id(t)] = (t, lifted)
        return lifted

    def wants(self, t: Any) -> bool:
        """Whether the backward pass works out a gradient for it."""
        return t is not None and bool(t.requires_grad) and _grad()

    # ---- What autograd keeps -------------------------------------------------------------------------------------

    def keep(self, t: Any) -> None:
        """Autograd keeps the whole memory of which `t` shows a part; each counts once, parameters not at all."""
        if type(t) is ShapeTensor:
            root = t if t.base is None else t.base
            if root.kept:
                return
            root.kept = True
            if root.stood_for is None:
                self._kept += prod(root.dims) * root.kind.itemsize
                return
            t = root.stood_for
        if t is not None and id(t) not in self.waiting and id(t) not in self.held:
            self.held[id(t)] = t, len(self.notes) - 1

    def keep_bytes(self, count: int) -> None:
        """Autograd keeps memory of its own: statistics, masks, indices."""
        self._kept += count

    def _settle(self) -> None:
        """Bytes of the real tensors that are kept. Several may share memory, among themselves or with a parameter."""
        if not self.held:
            return
        counted = {p.untyped_storage()._cdata for p in self._owned}
        for t, row in self.held.values():
            memory = t.untyped_storage()
            if memory._cdata not in counted and self.notes:
                counted.add(memory._cdata)
                self.notes[row]["saved_bytes"] += memory.nbytes()

    # ---- Rows ----------------------------------------------------------------------------------------------------

    def _use(self, sources: Sequence[Any]) -> tuple[list[Shape], int, bool, bool, bool]:
        """Shapes that come from the data, parameters first used here, and whether data, parameters and tensors that
        want a gradient take part."""
        inputs: list[Shape] = []
        params, fed, learned, needs, waiting = 0, False, False, False, self.waiting
        for t in sources:
            if type(t) is ShapeTensor:
                if t.fed:
                    fed = True
                    inputs.append(t.dims)
                if t.learned:
                    learned = True
                if t.needs:
                    needs = True
                for p in t.owes:
                    params += waiting[id(p)]
                    waiting[id(p)] = 0
            elif t is not None:
                first_use = waiting.get(id(t))
                if first_use is not None:
                    params += first_use
                    waiting[id(t)] = 0
                    learned = True
                if isinstance(t, Tensor) and t.requires_grad:
                    needs = True
        return inputs, params, fed, learned, needs

    def _row(self, inputs: list[Shape], params: int, out: ShapeTensor, macs: int, activations: int, back: int) -> None:
        place = self.where(5) if self.at is None else self.at  # past _row, compute, the rule and the handler
        self.note(place, inputs, params, out, macs, activations, back)

    def note(
        self, path: str, inputs: Sequence[Shape], params: int, out: ShapeTensor, macs: int, activations: int, back: int
    ) -> None:
        """A row as it will be, but that its field is yet to be reported."""
        self.notes.append(
            {
                "path": path,
                "op": self.op,
                "inputs": tuple(inputs),
                "output": out.dims,
                "params": params,
                "macs": macs,
                "activations": activations,
                "activation_bytes": activations * out.kind.itemsize,
                "field": out.field,
                "stride": None,
                "saved_bytes": self._kept,
                "backward_macs": back,
                "offset": None,
                "setting": self.setting,
            }
        )
        self.setting = None
        self._kept = 0

    def charge(self) -> None:
        """What was kept since the last row was noted belongs to it."""
        if self.notes:
            self.notes[-1]["saved_bytes"] += self._kept
            self._kept = 0

    def rows(self) -> tuple[Row, ...]:
        """What was noted, with fields and strides; most operations pass a field on, so each is worked out once."""
        self.charge()
        self._settle()
        seen: dict[tuple[int, Shape], tuple[Any, ...]] = {}
        held: list[Field] = []  # so that no other field gets its place in memory
        out = []
        for note in self.notes:
            field = note["field"]
            key = id(field), note["output"]
            found = seen.get(key)
            if found is None:
                found = seen[key] = report(field, key[1])
                held.append(field)
            note["field"], note["stride"], note["offset"] = found
            row = _blank(Row)  # filled at once: a frozen dataclass's own initialiser takes a tenth of the whole account
            _fill(row, "__dict__", note)
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
        """The answer that torch gives on meta tensors; listed as uncounted unless the function is known to be free.
        What it saves for the backward pass is read off the same call."""
        name = str(getattr(func, "__name__", None) or func)
        self.op, self.setting = name.strip("_"), {}
        if not any(isinstance(t, Tensor) for t in leaves((args, kwargs))):
            with torch._C.DisableTorchFunction():
                return func(*args, **kwargs)
        metas: dict[int, tuple[ShapeTensor, Tensor]] = {}
        before = len(self.notes)
        try:
            result, saved = run(func, args, kwargs, self.node, metas)
        except Exception as error:
            raise self._meta_refusal(func, args, kwargs, error) from error
        answer = self._from_meta(result, metas, {s._cdata: s for s in saved})
        self.setting = None
        if len(self.notes) > before:
            self.charge()
            if self.op not in self.free:
                self.uncounted[resolve_name(func) or name] = None
        return answer

    def _from_meta(self, result: Any, metas: dict[int, tuple[ShapeTensor, Tensor]], saved: dict[int, Any]) -> Any:
        """Results that are inputs stay what they were, views stay views; of the new ones the first bears the row."""
        sources = [x for x, _ in metas.values()]
        fed = any(x.fed for x in sources)
        memory = {m.untyped_storage()._cdata: x for x, m in metas.values()}
        known = {id(m): x for x, m in metas.values()}
        outs = [t for t in leaves(result) if isinstance(t, Tensor)]
        fresh = [t for t in outs if id(t) not in known and t.untyped_storage()._cdata not in memory]
        size = sum(t.numel() for t in fresh)
        inputs, params, _, learned, _ = self._use(sources) if fresh else ([], 0, fed, False, False)
        field: Field = UNKNOWN if fed else None
        made: dict[int, ShapeTensor] = {}  # results by their memory

        def swap(t: Any) -> Any:
            if not isinstance(t, Tensor):
                return t
            shape, kind = tuple(t.shape), t.dtype
            source = known.get(id(t))
            if source is not None:
                source.dims, source.kind, source.steps = shape, kind, plain(shape, t.stride())
                return source if not fed else self.overwrite(source, sources, UNKNOWN)
            place = t.untyped_storage()._cdata
            shown = memory.get(place)
            if shown is not None:
                out = self.view(shown, shape, UNKNOWN if shown.fed else None, t.stride())
                out.kind = kind
                return out
            out = new(shape, kind, sources[0].place if sources else torch.device("cpu"), plain(shape, t.stride()))
            out.fed, out.learned, out.field, out.needs, out.base = fed, learned, field, t.requires_grad, made.get(place)
            if not made and (fed or learned):
                self._row(inputs, params, out, 0, size, 0)
            made.setdefault(place, out)
            return out

        answer = swapped(result, swap)
        for place, storage in saved.items():
            owner = memory.get(place)
            if owner is None and place in made:
                made[place].kept = True
            if owner is None:
                self._kept += storage.nbytes()
            else:
                self.keep(owner)
        return answer

    # ---- Refusals ------------------------------------------------------------------------------------------------

    def place(self) -> str:
        return (self.where() if self.at is None else self.at) or "the network's own forward"

    def refusal(self, args: Sequence[Any], kwargs: dict[str, Any], reason: str) -> BadInput:
        return misfit(self.place(), self.op, (args, kwargs), self.notes, one_line(reason))

    def needs_values(self) -> BadInput:
        return BadInput(
            f"at {self.place()} ({self.op}): the forward pass reads the values of a tensor, and an account has shapes "
            "only; let the forward depend on shapes, or give device='cpu' to run it on values"
        )

    def _meta_refusal(self, func: Any, args: Sequence[Any], kwargs: dict[str, Any], error: Exception) -> BadInput:
        if isinstance(error, NotImplementedError) or "meta tensor" in str(error):
            return self.needs_values()
        return self.refusal(args, kwargs, str(error))


def one_line(text: str) -> str:
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else "no reason given"
