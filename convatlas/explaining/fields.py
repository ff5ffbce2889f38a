"""Receptive field, stride and offset by the rule, from those of the rows that feed an operation.

A row names its inputs by shape only. What feeds it is the nearest earlier row, or the network's input, with such an
output for which the rule comes to the row's own figures; where there is none, no formula is shown.
"""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import islice, product
from math import prod
from typing import NamedTuple

from ..table import Row, Shape, Table
from .formula import Line, by_axis, equal
from .sizes import POOLS, base, numbers, paddings

NEAR, COMBINATIONS = 24, 256  # how far the search goes
PER_ELEMENT = "none: positions are joined or mixed irregularly before it, or there are none"


class Seen(NamedTuple):
    """What a map's elements see; no stride where there is one position."""

    place: int  # of the row; -1 for the network's input
    shape: Shape
    field: Shape
    stride: Shape | None
    offset: Shape


class Feeding:
    """Earlier maps of a table by their shapes and by their numbers of elements."""

    def __init__(self, table: Table):
        self.seen: list[Seen] = []
        for shape in table.input:
            n = len(shape) - 2
            if n > 0:
                self.seen.append(Seen(-1, shape, (1,) * n, (1,) * n, (0,) * n))
        for i, r in enumerate(table.rows):
            if r.field is not None and r.offset is not None:
                self.seen.append(Seen(i, r.output, r.field, r.stride, r.offset))
        self.places = [s.place for s in self.seen]
        self.by_shape: dict[Shape, list[int]] = {}
        self.by_size: dict[int, list[int]] = {}
        for i, s in enumerate(self.seen):
            self.by_shape.setdefault(s.shape, []).append(i)
            self.by_size.setdefault(prod(s.shape), []).append(i)

    def near(self, row: int, shape: Shape) -> list[Seen]:
        """Maps before the row that could be this input, the likeliest first: of its shape, of its size (a view), of
        its positions (a slice of channels), or of every second or third position."""
        end = bisect_left(self.places, row)
        out: dict[int, None] = {}
        for group in (self.by_shape.get(shape, []), self.by_size.get(prod(shape), [])):
            before = group[: bisect_left(group, end)]
            out.update(dict.fromkeys(before[: -NEAR - 1 : -1]))
        for i in range(end - 1, max(-1, end - 1 - NEAR), -1):
            if self.seen[i].shape[2:] == shape[2:]:
                out[i] = None
        recent = (self.seen[i] for i in range(end - 1, max(-1, end - 1 - NEAR), -1))
        thinned = (_thinned(s, shape) for s in recent if s.shape[:2] == shape[:2])
        return [*(self.seen[i] for i in out), *(s for s in thinned if s is not None)]


def _thinned(seen: Seen, shape: Shape) -> Seen | None:
    """What is left of a map at a step of 2 to 4, as in the shortcut without weights of a residual network."""
    if seen.stride is None or len(shape) != len(seen.shape):
        return None
    for step in (2, 3, 4):
        if shape[2:] == tuple(-(-n // step) for n in seen.shape[2:]):
            return seen._replace(shape=shape, stride=tuple(jump * step for jump in seen.stride))
    return None


def field_lines(row: Row, place: int, feeding: Feeding) -> list[Line]:
    if row.field is None or row.offset is None:
        return [("field", PER_ELEMENT)] if row.inputs else []
    inputs = [feeding.near(place, shape) for shape in row.inputs]
    if len(inputs) == 1 or numbers(row, "kernel"):
        for seen in inputs[0] if inputs else ():
            if lines := _by_rule(row, seen):
                return lines
    elif inputs and (lines := _union(row, inputs)):
        return lines
    parted = "by no single window, since branches before it see different parts"
    already = any((s.field, s.offset) == (row.field, row.offset) for near in inputs for s in near)
    wide = "its input sees that much at every position, by a branch over the whole map"
    return by_axis("field", [f"{text}: {wide if already else parted}" for text in _plain(row)])


def _plain(row: Row) -> list[str]:
    """Figures alone, per axis."""
    out = []
    for j, (field, begin) in enumerate(zip(row.field or (), row.offset or (), strict=True)):
        stride = f"stride {row.stride[j]}" if row.stride else "no stride (one position)"
        out.append(f"{field}, {stride}, begins at {begin}")
    return out


def _by_rule(row: Row, seen: Seen) -> list[Line]:
    if len(seen.field) != len(row.field or ()):
        return []
    op = base(row.op)
    if slides := _slides(row, op, seen):
        return _slid(row, seen, slides)
    if op.startswith(("adaptive_", "conv")) or op in POOLS:
        return []
    if (seen.field, seen.offset) == (row.field, row.offset) and (row.stride is None or row.stride == seen.stride):
        return by_axis("field", [f"{text}: its input's" for text in _plain(row)])
    n = len(seen.field)
    if row.stride is None and len(seen.shape) == n + 2:  # all positions come together
        return _slid(row, seen, [(1, length, length, 0) for length in seen.shape[2:]])
    return []


def _slides(row: Row, op: str, seen: Seen) -> list[tuple[int, int, int, int]]:
    """(dilation, kernel, stride, elements before the map) per axis of an operation with windows."""
    size = numbers(row, "size")
    if op.startswith("adaptive_") and len(seen.shape) > len(size) > 0:
        maps = list(zip(seen.shape[-len(size) :], size, strict=True))
        if any(length % n for length, n in maps):
            return []
        return [(1, length // n, length // n if n > 1 else 1, 0) for length, n in maps]
    kernel, steps, rates, before = (
        numbers(row, "kernel"),
        numbers(row, "stride"),
        numbers(row, "dilation"),
        paddings(row),
    )
    if not kernel or not (op.startswith("conv") or op in POOLS):
        return []
    if op.startswith("conv_transpose"):
        if set(steps) != {1}:
            return []
        before = tuple(d * (k - 1) - p for k, d, p in zip(kernel, rates, before, strict=True))
    return list(zip(rates, kernel, steps, before, strict=True))


def _slid(row: Row, seen: Seen, slides: Sequence[tuple[int, int, int, int]]) -> list[Line]:
    if len(slides) != len(seen.field):
        return []
    texts = []
    for j, (rate, kernel, step, before) in enumerate(slides):
        if seen.stride is None and (kernel > 1 or before):
            return []  # how far apart the positions of a map of one would be is not in the table
        jump = seen.stride[j] if seen.stride else 0
        text = _axis(row, j, seen, (rate, kernel, step, before, jump))
        if text is None:
            return []
        texts.append(text)
    return by_axis("field", texts)


def _axis(row: Row, j: int, seen: Seen, slide: tuple[int, int, int, int, int]) -> str | None:
    rate, kernel, step, before, jump = slide
    span = f"({kernel} - 1)" if rate == 1 else f"{rate}*({kernel} - 1)"
    grown = f"{seen.field[j]} + {span} * {jump}" if seen.stride else f"{seen.field[j]}"
    field = equal(grown, (row.field or ())[j])
    begins = equal(f"{seen.offset[j]} - {before}*{jump}" if before else f"{seen.offset[j]}", (row.offset or ())[j])
    stride: str | None = "no stride (one position)"
    if row.stride:
        shown = equal(f"{jump} * {step}", row.stride[j])
        stride = f"stride {shown}" if shown and seen.stride else None
    return f"{field}, {stride}, begins at {begins}" if field and begins and stride else None


def _union(row: Row, inputs: list[list[Seen]]) -> list[Line]:
    """Of several inputs: from the first element that any of them sees to the last."""
    for parts in _choices(inputs):
        if any(len(p.field) != len(row.field or ()) for p in parts):
            continue
        if row.stride is not None and all(p.stride != row.stride for p in parts):
            continue
        if all((p.field, p.offset) == (row.field, row.offset) for p in parts):
            return by_axis("field", [f"{text}: its inputs'" for text in _plain(row)])
        if texts := _joined(row, parts):
            return by_axis("field", texts)
    return []


def _joined(row: Row, parts: Sequence[Seen]) -> list[str]:
    texts = []
    for j, plain in enumerate(_plain(row)):
        ranges = dict.fromkeys((p.offset[j], p.field[j]) for p in parts)
        if len(ranges) == 1:
            ((begin, wide),) = ranges
            ends, begins = f"{wide}", f"{begin}"
        else:
            begins = f"min({', '.join(dict.fromkeys(str(b) for b, _ in ranges))})"
            begins = begins if "," in begins else begins[4:-1]
            last = f"max({', '.join(f'{b} + {w}' for b, w in ranges)})"
            ends = f"{last} - {begins}" if not begins.startswith("-") else f"{last} - ({begins})"
        field = equal(ends, (row.field or ())[j])
        if field is None or equal(begins, (row.offset or ())[j]) is None:
            return []
        texts.append(f"{field}{plain[plain.index(',') :]}: the union of its inputs'")
    return texts


def _choices(inputs: list[list[Seen]]) -> Iterator[tuple[Seen, ...]]:
    """Which maps the inputs may be: each another one first, then any."""
    taken: set[int] = set()
    distinct = []
    for near in reversed(inputs):
        found = next((s for s in near if s.place not in taken), None)
        if found is None:
            break
        taken.add(found.place)
        distinct.append(found)
    if len(distinct) == len(inputs):
        yield tuple(distinct[::-1])
    yield from islice(product(*(near[:4] for near in inputs)), COMBINATIONS)
    yield from islice(product(*inputs), COMBINATIONS)
