"""Receptive fields: which input pixels an element of a feature map depends on, per axis, exact over branches.

A tensor's field is a tuple with one `Axis` for each spatial axis of the network's input; None for a tensor that does
not depend on the input; the empty tuple where the dependence is not known. Padding counts as pixels, as the papers and
https://distill.pub/2019/computing-receptive-fields do: a field may be larger than the input (AlexNet's fc6 sees 355 of
227). Statistics of normalisation layers are left out, or group normalisation would make every field the whole input.
All channels of a map share one field: that of the channel that sees most.
"""

from collections.abc import Iterable, Sequence
from math import inf
from typing import NamedTuple

Shape = tuple[int, ...]
ALL = -1  # an axis that runs along no dimension: every element sees the same pixels


class Axis(NamedTuple):
    """Element i along `dim` depends on input pixels low + i * jump .. high + i * jump, and on first .. last besides.

    low > high or first > last is an empty range. Where `mixed`, elements do not move regularly (several dimensions were
    merged, or windows have unequal sizes); first .. last is then what all elements together depend on.
    """

    dim: int
    low: float
    high: float
    jump: int
    first: float = inf
    last: float = -inf
    mixed: bool = False


Field = tuple[Axis, ...] | None
_axis = tuple.__new__  # a third of the time of Axis(...)
UNKNOWN: Field = ()


def start(shape: Shape) -> Field:
    """The input itself, (N,C,...): each element is one pixel."""
    return tuple(Axis(d, 0, 0, 1) for d in range(2, len(shape)))


def window(axis: Axis, span: int, stride: int, padding: int) -> Axis:
    """A window of span + 1 pixels slides along the axis: field += span * jump, jump *= stride."""
    dim, low, high, jump, first, last, mixed = axis
    low -= padding * jump
    return Axis(dim, low, high + (span - padding) * jump, jump * stride, first, last, mixed)


def slid(field: tuple[Axis, ...], shape: Shape, channel: int, slides: Sequence[tuple[int, int, int]]) -> Field:
    """A convolution: channels are summed, and each axis behind them has its (span, stride, padding)."""
    out = []
    for axis in field:
        dim, low, high, jump, first, last, mixed = axis
        if dim > channel:
            span, stride, padding = slides[dim - channel - 1]
            ends = dim, low - padding * jump, high + (span - padding) * jump, jump * stride, first, last, mixed
            axis = _axis(Axis, ends)
        elif dim == channel:
            axis = whole(axis, shape)
        out.append(axis)
    return tuple(out)


def whole(axis: Axis, shape: Shape, dim: int = ALL) -> Axis:
    """Every element sees what all elements together saw; the axis then runs along `dim` (of size one) or none."""
    end = (shape[axis.dim] - 1) * axis.jump if axis.dim != ALL else 0
    return Axis(dim, min(axis.low, axis.first), max(axis.high + end, axis.last), axis.jump)


def spread(axis: Axis, shape: Shape) -> Axis:
    """Every element sees what all saw together, but the axis keeps its size (softmax over positions)."""
    return _everywhere(whole(axis, shape), axis.dim)


def blurred(axis: Axis, shape: Shape, dim: int) -> Axis:
    """Which element sees what is given up; what all see together stays known."""
    low, high = whole(axis, shape)[1:3]
    return Axis(dim, inf, -inf, axis.jump, low, high, True)


def contracted(field: Field, shape: Shape, dims: Iterable[int]) -> Field:
    """A weighted sum over some dimensions that gives new elements in their place: a linear layer over features."""
    if not field:
        return field
    over = set(dims)
    return tuple(whole(a, shape) if a.dim in over else a for a in field)


def along(field: Field, shape: Shape, dims: Iterable[int], keep: bool) -> Field:
    """The elements of some dimensions are joined into one (a mean, a maximum), kept as one of size one or not."""
    if not field:
        return field
    gone = set(dims)
    kept = [d for d in range(len(shape)) if keep or d not in gone]
    place = {d: i for i, d in enumerate(kept)}
    out = []
    for axis in field:
        if axis.dim in gone:
            out.append(whole(axis, shape, axis.dim if keep else ALL))
        else:
            out.append(axis if axis.dim == ALL else axis._replace(dim=place[axis.dim]))
    return tuple(out)


def meet(one: Field, two: Field, shape: Shape) -> Field:
    """`union` of two tensors of one shape, as at the end of a residual block."""
    if one is two or not two or not one:
        return one if two is None else two if one is None else union([(one, shape), (two, shape)], len(shape))
    out = []
    for a, b in zip(one, two, strict=False):
        dim, low, high, jump, first, last, mixed = a
        dim2, low2, high2, jump2, first2, last2, mixed2 = b
        if dim != dim2 or jump != jump2 or mixed or mixed2 or len(one) != len(two):
            return union([(one, shape), (two, shape)], len(shape))
        ends = (
            dim,
            low if low < low2 else low2,
            high if high > high2 else high2,
            jump,
            first if first < first2 else first2,
            last if last > last2 else last2,
            False,
        )
        out.append(_axis(Axis, ends))
    return tuple(out)


def union(parts: Sequence[tuple[Field, Shape]], rank: int) -> Field:
    """Tensors that meet element by element, broadcast from the right: each element sees what any of its sources saw."""
    field, shape = parts[0]
    same = all(s == shape for _, s in parts)
    if same and all(f is field for f, _ in parts):
        return field
    known = [(f, s) for f, s in parts if f is not None]
    if not known:
        return None
    count = len(known[0][0] or ())
    if not count or any(not f or len(f) != count for f, _ in known):
        return UNKNOWN
    size = (
        shape if same else [max((s[d - rank] for _, s in parts if len(s) >= rank - d), default=1) for d in range(rank)]
    )
    out = []
    for axes in zip(*[f for f, _ in known if f], strict=True):
        joined = _join(
            axes if same else [_aligned(a, s, rank, size) for a, (_, s) in zip(axes, known, strict=True)], size
        )
        if joined is None:
            return UNKNOWN
        out.append(joined)
    return tuple(out)


def _aligned(axis: Axis, shape: Shape, rank: int, size: Sequence[int]) -> Axis:
    if axis.dim == ALL:
        return axis
    dim = axis.dim + rank - len(shape)
    if shape[axis.dim] == 1 and size[dim] != 1:
        return _everywhere(whole(axis, shape), dim)
    return axis._replace(dim=dim)


def _everywhere(seen: Axis, dim: int) -> Axis:
    return Axis(dim, inf, -inf, seen.jump, seen.low, seen.high)


def _join(axes: Sequence[Axis], size: Sequence[int]) -> Axis | None:
    """One axis seen through several branches. None where they run along different dimensions."""
    places, lows, highs, jumps, firsts, lasts, mixed = zip(*axes, strict=True)
    dim, jump = places[0], jumps[0]
    if places.count(dim) == len(axes) == jumps.count(jump) and not any(mixed):
        return Axis(dim, min(lows), max(highs), jump, min(firsts), max(lasts))
    dims = {a.dim for a in axes if a.dim != ALL}
    if len(dims) > 1:
        return None
    dim = dims.pop() if dims else ALL
    if dim != ALL and ALL in places:
        return _join([_everywhere(a, dim) if a.dim == ALL else a for a in axes], size)
    moving = {a.jump for a in axes if a.low <= a.high}
    if any(mixed) or (len(moving) > 1 and dim != ALL and size[dim] > 1):
        shape = tuple(size)
        parts = [whole(a, shape) for a in axes]
        return Axis(dim, inf, -inf, max(jumps), min(p.low for p in parts), max(p.high for p in parts), True)
    return Axis(dim, min(lows), max(highs), max(moving or jumps), min(firsts), max(lasts))


def sliced(axis: Axis, start: int, step: int, shape: Shape) -> Axis | None:
    """Elements start, start + step, ... along the axis; None where the axis is mixed."""
    if axis.mixed:
        return None
    shift = start * axis.jump
    return axis._replace(low=axis.low + shift, high=axis.high + shift, jump=axis.jump * step)


def chosen(axis: Axis, index: int) -> Axis | None:
    """One element along the axis, whose dimension then goes away; None where the axis is mixed."""
    if axis.mixed:
        return None
    shift = index * axis.jump
    return Axis(ALL, min(axis.low + shift, axis.first), max(axis.high + shift, axis.last), axis.jump)


def permuted(field: Field, order: Sequence[int]) -> Field:
    """Dimension order[i] becomes dimension i."""
    if not field:
        return field
    return tuple(a if a.dim == ALL else a._replace(dim=order.index(a.dim)) for a in field)


def inserted(field: Field, dim: int) -> Field:
    """A new dimension before dimension `dim`."""
    return tuple(a._replace(dim=a.dim + 1) if a.dim >= dim else a for a in field) if field else field


def reshaped(field: Field, old: Shape, new: Shape) -> Field:
    """Dimensions are merged or split; an axis survives where its own dimension does."""
    if not field:
        return field
    groups = _groups(old, new)
    out = []
    for axis in field:
        if axis.dim == ALL:
            out.append(axis)
        elif old[axis.dim] == 1:
            out.append(whole(axis, old))
        else:
            before, after = next(g for g in groups if axis.dim in g[0])
            if len(after) != 1:
                return UNKNOWN
            out.append(axis._replace(dim=after[0]) if len(before) == 1 else blurred(axis, old, after[0]))
    return tuple(out)


def _groups(old: Shape, new: Shape) -> list[tuple[list[int], list[int]]]:
    """Smallest runs of dimensions of both shapes that hold the same elements; dimensions of size one are left out."""
    left = [d for d, n in enumerate(old) if n != 1]
    right = [d for d, n in enumerate(new) if n != 1]
    groups = []
    while left and right:
        before, after = [left.pop(0)], [right.pop(0)]
        a, b = old[before[0]], new[after[0]]
        while a != b and (left or right):
            if a < b and left:
                before.append(left.pop(0))
                a *= old[before[-1]]
            else:
                after.append(right.pop(0))
                b *= new[after[-1]]
        groups.append((before, after))
    return groups


def report(field: Field, shape: Shape) -> tuple[Shape | None, Shape | None, Shape | None]:
    """Receptive field, stride and offset per axis, in input pixels; None where unknown.

    The field is that of the centre element; the offset is where the first element's field begins. There is no stride
    where the map has a single position.
    """
    if not field:
        return None, None, None
    sizes, jumps, starts, single = [], [], [], True
    for dim, low, high, jump, first, last, mixed in field:
        if mixed:
            return None, None, None
        length = shape[dim] if dim != ALL else 1
        if length > 1:
            single = False
        starts.append(int(low if low < first else first))
        if first <= last:
            shift = (length - 1) // 2 * jump
            low, high = min(low + shift, first), max(high + shift, last)
        sizes.append(int(high - low) + 1)
        jumps.append(jump)
    return tuple(sizes), None if single else tuple(jumps), tuple(starts)
