"""A table's operations as nested parts in order, with the branches that its rows show to run side by side.

A row tells shapes and receptive fields, and not which tensor came in. So the source of each part is inferred. The part
before it is the source wherever that can be: equal elements, and the receptive field that the part's first operation
must have had before it. A part that cannot follow the one before it takes an earlier tensor that fits. An addition or
concatenation joins branches where its inputs are the ends that are still open. All else stands in sequence.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import prod
from typing import Any

from .table import Row, Shape

JOINS = ("add", "cat")


@dataclass(frozen=True)
class Part:
    """A call of a module, or with nothing inside one operation. `name` is the path inside the part around it."""

    name: str
    path: str
    rows: tuple[Row, ...]
    inside: "tuple[Part | Split, ...]" = ()

    @property
    def macs(self) -> int:
        return sum(r.macs for r in self.rows)


@dataclass(frozen=True)
class Split:
    """Branches that leave one tensor, in the order of their calls, and the operation that joins them.

    `shortcut` is "shortcut" where the join also takes the tensor that the branches leave, and "shortcut, likely" where
    a tensor on the way has the same shape and the rows cannot tell them apart.
    """

    branches: "tuple[tuple[Part | Split, ...], ...]"
    join: Part
    shortcut: str = ""


Piece = Part | Split


def parts(rows: Sequence[Row], inside: tuple[str, ...] = ()) -> tuple[Piece, ...]:
    """The modules and operations directly under one path, branches found. A module called twice is there twice."""
    depth = len(inside)

    def key(numbered: tuple[int, Row]) -> tuple[str | int, ...]:
        names = _names(numbered[1])
        return (names[depth],) if len(names) > depth else ("", numbered[0])

    groups = [tuple(row for _, row in group) for _, group in groupby(enumerate(rows), key)]
    return _arranged([_part(group, depth) for group in groups])


def _names(row: Row) -> tuple[str, ...]:
    return tuple(row.path.split(".")) if row.path else ()


def _part(rows: tuple[Row, ...], depth: int) -> Part:
    """A module that only holds one other is passed over: its name stands before the other's."""
    names = _names(rows[0])
    if len(rows) == 1:
        return Part(".".join(names[depth:]) or rows[0].op, rows[0].path, rows)
    end = depth + 1
    while all(len(_names(r)) > end and _names(r)[end] == names[end] for r in rows):
        end += 1
    return Part(".".join(names[depth:end]), ".".join(names[:end]), rows, parts(rows, names[:end]))


@dataclass
class _Tensor:
    """What a piece gives; `source` is the index of the tensor that it takes, `sure` whether that one fits."""

    shape: Shape
    field: Shape | None
    source: int = -1
    piece: Piece | None = None
    sure: bool = True
    anchor: bool = False  # a tensor that blocks leave: what came in, or what a join gave


def _arranged(found: Sequence[Part]) -> tuple[Piece, ...]:
    if not found:
        return ()
    first = found[0].rows[0]
    level = _Level(_Tensor(first.inputs[0] if first.inputs else first.output, _before(first), anchor=True))
    for part in found:
        if not (len(part.rows) == 1 and part.rows[0].op in JOINS and level.join(part)):
            level.follow(part)
    return tuple(piece for i in level.placed if (piece := level.tensors[i].piece) is not None)


class _Level:
    """The tensors of one part as far as its operations have been read."""

    def __init__(self, entry: _Tensor):
        self.tensors = [entry]
        self.open = [0]  # tensors that nothing has taken yet
        self.placed: list[int] = []

    def follow(self, part: Part) -> None:
        first, last = part.rows[0], part.rows[-1]
        before = _before(first)
        source, sure = self._source(first, before)
        self._add(_Tensor(last.output, last.field, source, part, sure))

    def _source(self, first: Row, before: Shape | None) -> tuple[int, bool]:
        latest = self.placed[-1] if self.placed else 0
        last = self.tensors[latest]
        if any(prod(s) == prod(last.shape) for s in first.inputs) and _agree(before, last.field):
            return latest, True
        fitting = [
            i
            for i in reversed(range(latest + 1))
            if any(_sides(s) == _sides(self.tensors[i].shape) for s in first.inputs)
            and _agree(before, self.tensors[i].field)
        ]
        anchors = [i for i in fitting if self.tensors[i].anchor]
        return ((anchors or fitting)[0], True) if fitting else (latest, False)

    def join(self, part: Part) -> bool:
        """Puts the branches that end in this operation in their place; False where its inputs are not their ends."""
        row = part.rows[0]
        wanted = Counter(map(_sides, row.inputs))
        for count in (len(row.inputs), len(row.inputs) - 1):
            ends = self.open[-count:] if count else []
            rest = wanted - Counter(_sides(self.tensors[e].shape) for e in ends)
            if len(ends) != count or len(row.inputs) < 2 or rest.total() != len(row.inputs) - count:
                continue
            shortcut = next(iter(rest), None)
            fork = self._fork(ends, shortcut)
            if fork is not None and self._split(part, ends, fork, shortcut):
                return True
        return False

    def _fork(self, ends: Sequence[int], shortcut: Shape | None) -> int | None:
        """The last tensor that all branches come from; with one branch, the nearest one that a shortcut may leave."""
        ways = [self._way(e) for e in ends]
        common = [i for i in ways[0][1:] if all(i in way for way in ways)]
        if shortcut is None:
            return common[0] if common else None
        fits = [i for i in common if _sides(self.tensors[i].shape) == shortcut]
        if len(ends) > 1:
            return fits[0] if fits and fits[0] == common[0] else None
        return next((i for i in fits if self.tensors[i].anchor), None)

    def _way(self, end: int) -> list[int]:
        """Tensors from an end back to what came in."""
        way = [end]
        while way[-1] > 0:
            way.append(self.tensors[way[-1]].source)
        return way

    def _split(self, part: Part, ends: Sequence[int], fork: int, shortcut: Shape | None) -> bool:
        row = part.rows[0]
        ways = [list(reversed([i for i in self._way(e) if i > fork])) for e in ends]
        members = sorted(i for way in ways for i in way)
        recent = self.placed[len(self.placed) - len(members) :]
        if members != sorted(recent) or not all(self.tensors[i].sure for i in members):
            return False
        branches = tuple(tuple(p for i in way if (p := self.tensors[i].piece) is not None) for way in ways)
        word = ""
        if shortcut is not None:
            inner = [i for i in members if i not in ends and _sides(self.tensors[i].shape) == shortcut]
            same = [p for i in inner if isinstance(p := self.tensors[i].piece, Part)]
            # What concatenates a layer's own output looks the same; normalised or activated inputs are seldom kept.
            if row.op == "cat" and any(p.macs for p in same):
                return False
            word = "shortcut, likely" if inner else "shortcut"
        del self.placed[len(self.placed) - len(members) :]
        self.open = [i for i in self.open if i not in ends]
        self._add(_Tensor(row.output, row.field, fork, Split(branches, part, word), anchor=True))
        return True

    def _add(self, tensor: _Tensor) -> None:
        self.open = [i for i in self.open if i != tensor.source]
        self.open.append(len(self.tensors))
        self.placed.append(len(self.tensors))
        self.tensors.append(tensor)


def _sides(shape: Shape) -> Shape:
    """The shape without sides of one and without their order: transposing changes nothing."""
    return tuple(sorted(n for n in shape if n > 1))


def _agree(a: Shape | None, b: Shape | None) -> bool:
    return a is None or b is None or a == b


def _before(row: Row) -> Shape | None:
    """The receptive field of the tensor that an operation took, where its formula tells it."""
    if row.field is None or len(row.inputs) != 1 or "transpose" in row.op:
        return None
    kernel = row.setting.get("kernel")
    if kernel is None:
        return row.field if row.inputs[0] == row.output else None
    sides = len(row.field)
    if row.stride is None:
        return None
    step, dilation = axes(row, "stride", sides), axes(row, "dilation", sides)
    windows = zip(row.field, axes(row, "kernel", sides), dilation, row.stride, step, strict=True)
    return tuple(f - (k - 1) * d * (whole // s) for f, k, d, whole, s in windows)


def axes(row: Row, name: str, sides: int) -> tuple[int, ...]:
    """A setting per axis; 1 where the row has none."""
    value: Any = row.setting.get(name)
    if isinstance(value, Iterable) and not isinstance(value, str):
        given = tuple(int(v) for v in value if v is not None)
        return given if len(given) == sides else (given or (1,))[:1] * sides
    return (int(value) if value else 1,) * sides
