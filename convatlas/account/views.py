"""Rules for functions that show, cut, join or copy elements. Views make no row; copies and joins do."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from .field import UNKNOWN, Axis, Field, Shape, chosen, inserted, permuted, reshaped, sliced, union
from .shape import ShapeTensor, dims, restrided, strides
from .walk import Clash, NeedsValues, Rule, Walk


def sizes_of(args: Sequence[Any]) -> tuple[int, ...]:
    """view(2, 3) and view((2, 3))."""
    return tuple(args[0]) if len(args) == 1 and isinstance(args[0], (tuple, list)) else tuple(args)


def _filled(shape: tuple[int, ...], old: Shape) -> Shape:
    """-1 stands for what is left."""
    total = prod(old)
    new = shape
    if -1 in shape:
        rest = -prod(shape)
        new = tuple(total // rest if n == -1 else n for n in shape)
    if prod(new) != total or min(new, default=1) < 0:
        wanted = "x".join(map(str, shape))
        raise Clash(f"{total:,} elements do not make {wanted}; the layers before give another size of map")
    return new


def _as(walk: Walk, x: ShapeTensor, shape: Shape, copies: bool) -> ShapeTensor:
    """Another shape of the same elements in the same order; a copy where the layout does not allow a view."""
    if shape == x.dims:
        return x
    field = reshaped(x.field, x.dims, shape)
    if x.steps is None:
        return walk.view(x, shape, field, None)
    steps = restrided(x, shape)
    if steps is None:
        if not copies:
            raise ValueError
        return walk.compute((x,), shape, field)
    return walk.view(x, shape, field, steps)


def view(walk: Walk, input: Tensor, *args: Any, **kwargs: Any) -> ShapeTensor:
    x = walk.node(input)
    args = args or tuple(kwargs.values())
    if isinstance(args[0], torch.dtype):
        if args[0].itemsize != x.kind.itemsize:
            raise TypeError
        out = walk.view(x, x.dims, x.field, x.steps)
        out.kind = args[0]
        out.needs = out.needs and (out.kind.is_floating_point or out.kind.is_complex)
        return out
    return _as(walk, x, _filled(sizes_of(args), x.dims), False)


def reshape(walk: Walk, input: Tensor, *args: Any, **kwargs: Any) -> ShapeTensor:
    x = walk.node(input)
    return _as(walk, x, _filled(sizes_of(args or tuple(kwargs.values())), x.dims), True)


def view_as(walk: Walk, input: Tensor, other: Tensor) -> ShapeTensor:
    x = walk.node(input)
    return _as(walk, x, _filled(dims(other), x.dims), False)


def flatten(walk: Walk, input: Tensor, start_dim: int = 0, end_dim: int = -1) -> ShapeTensor:
    x = walk.node(input)
    d = range(len(x.dims))
    start, end = d[start_dim], d[end_dim]
    return _as(walk, x, (*x.dims[:start], prod(x.dims[start : end + 1]), *x.dims[end + 1 :]), True)


def unflatten(walk: Walk, input: Tensor, dim: int, sizes: Sequence[int]) -> ShapeTensor:
    x = walk.node(input)
    dim = range(len(x.dims))[dim]
    return _as(walk, x, (*x.dims[:dim], *_filled(tuple(sizes), (x.dims[dim],)), *x.dims[dim + 1 :]), False)


def squeeze(walk: Walk, input: Tensor, dim: Any = None) -> ShapeTensor:
    x = walk.node(input)
    d = range(len(x.dims))
    gone = set(d) if dim is None else {d[i] for i in ((dim,) if isinstance(dim, int) else dim)}
    kept = [i for i in d if i not in gone or x.dims[i] != 1]
    shape = tuple(x.dims[i] for i in kept)
    steps = None if x.steps is None else tuple(x.steps[i] for i in kept)
    return walk.view(x, shape, reshaped(x.field, x.dims, shape), steps)


def unsqueeze(walk: Walk, input: Tensor, dim: int) -> ShapeTensor:
    x = walk.node(input)
    dim = range(len(x.dims) + 1)[dim]
    shape = (*x.dims[:dim], 1, *x.dims[dim:])
    steps = None if x.steps is None else (*x.steps[:dim], 1, *x.steps[dim:])
    return walk.view(x, shape, inserted(x.field, dim), steps)


def permute(walk: Walk, input: Tensor, *args: Any, **kwargs: Any) -> ShapeTensor:
    x = walk.node(input)
    d = range(len(x.dims))
    return _permuted(walk, x, [d[i] for i in sizes_of(args or tuple(kwargs.values()))])


def _permuted(walk: Walk, x: ShapeTensor, order: list[int]) -> ShapeTensor:
    if sorted(order) != list(range(len(x.dims))):
        raise ValueError
    steps = strides(x)
    return walk.view(x, tuple(x.dims[i] for i in order), permuted(x.field, order), tuple(steps[i] for i in order))


def transpose(walk: Walk, input: Tensor, dim0: int, dim1: int) -> ShapeTensor:
    x = walk.node(input)
    order = list(range(len(x.dims)))
    order[dim0], order[dim1] = order[dim1], order[dim0]
    return _permuted(walk, x, order)


def transposed_last(walk: Walk, input: Tensor) -> ShapeTensor:
    """t, .T and .mT of a matrix."""
    x = walk.node(input)
    return x if len(x.dims) < 2 else transpose(walk, x, -2, -1)


def turned(walk: Walk, input: Tensor) -> ShapeTensor:
    x = walk.node(input)
    return _permuted(walk, x, list(range(len(x.dims)))[::-1])


def movedim(walk: Walk, input: Tensor, source: Any, destination: Any) -> ShapeTensor:
    x = walk.node(input)
    d = range(len(x.dims))
    a = [d[i] for i in ((source,) if isinstance(source, int) else source)]
    b = [d[i] for i in ((destination,) if isinstance(destination, int) else destination)]
    order = [i for i in d if i not in a]
    for place, i in sorted(zip(b, a, strict=True)):
        order.insert(place, i)
    return _permuted(walk, x, order)


def expand(walk: Walk, input: Tensor, *args: Any, **kwargs: Any) -> ShapeTensor:
    x = walk.node(input)
    wanted = sizes_of(args or tuple(kwargs.values()))
    return _expanded(walk, x, wanted)


def _expanded(walk: Walk, x: ShapeTensor, wanted: Sequence[int]) -> ShapeTensor:
    more = len(wanted) - len(x.dims)
    old, steps = (1,) * more + x.dims, (0,) * more + strides(x)
    shape = tuple(o if n == -1 else n for o, n in zip(old, wanted, strict=True))
    if any(o not in (1, n) for o, n in zip(old, shape, strict=True)):
        raise ValueError
    steps = tuple(0 if o == 1 and n != 1 else s for o, n, s in zip(old, shape, steps, strict=True))
    field = x.field if x.field is None else union([(x.field, x.dims), (None, shape)], len(shape))
    return walk.view(x, shape, field, steps)


def expand_as(walk: Walk, input: Tensor, other: Tensor) -> ShapeTensor:
    return _expanded(walk, walk.node(input), dims(other))


# ---- Parts ---------------------------------------------------------------------------------------------------------


def part(walk: Walk, x: ShapeTensor, dim: int, start: int, length: int, step: int = 1) -> ShapeTensor:
    """Elements start, start + step, ... of one dimension."""
    shape = (*x.dims[:dim], length, *x.dims[dim + 1 :])
    steps = strides(x)
    steps = (*steps[:dim], steps[dim] * step, *steps[dim + 1 :])
    field = x.field
    if field and any(a.dim == dim for a in field):
        axes = [sliced(a, start, step, x.dims) if a.dim == dim else a for a in field]
        field = _known(axes)
    return walk.view(x, shape, field, steps)


def _known(axes: Sequence[Axis | None]) -> Field:
    return UNKNOWN if any(a is None for a in axes) else tuple(a for a in axes if a is not None)


def select(walk: Walk, input: Tensor, dim: int, index: int) -> ShapeTensor:
    x = walk.node(input)
    dim = range(len(x.dims))[dim]
    index = range(x.dims[dim])[index]
    field = x.field
    if field:
        axes = [chosen(a, index) if a.dim == dim else a._replace(dim=a.dim - (a.dim > dim)) for a in field]
        field = _known(axes)
    steps = strides(x)
    return walk.view(x, (*x.dims[:dim], *x.dims[dim + 1 :]), field, (*steps[:dim], *steps[dim + 1 :]))


def narrow(walk: Walk, input: Tensor, dim: int, start: int, length: int) -> ShapeTensor:
    x = walk.node(input)
    dim = range(len(x.dims))[dim]
    start = range(x.dims[dim] + 1)[start]
    if start + length > x.dims[dim]:
        raise ValueError
    return part(walk, x, dim, start, length)


def split(walk: Walk, tensor: Tensor, split_size_or_sections: Any, dim: int = 0) -> tuple[ShapeTensor, ...]:
    x = walk.node(tensor)
    dim = range(len(x.dims))[dim]
    n, given = x.dims[dim], split_size_or_sections
    sizes = [min(given, n - i) for i in range(0, max(n, 1), given)] if isinstance(given, int) else list(given)
    if sum(sizes) != n:
        raise ValueError
    out, start = [], 0
    for size in sizes:
        out.append(part(walk, x, dim, start, size))
        start += size
    return tuple(out)


def chunk(walk: Walk, input: Tensor, chunks: int, dim: int = 0) -> tuple[ShapeTensor, ...]:
    return split(walk, input, max(1, -(-dims(input)[dim] // chunks)), dim)


def unbind(walk: Walk, input: Tensor, dim: int = 0) -> tuple[ShapeTensor, ...]:
    return tuple(select(walk, input, dim, i) for i in range(dims(input)[dim]))


def iterate(walk: Walk, input: Tensor) -> Any:
    return iter(unbind(walk, input))


def getitem(walk: Walk, input: Tensor, index: Any) -> ShapeTensor:
    """Numbers, slices, None and ... are views; a tensor or a list of indices copies."""
    x = walk.node(input)
    items = index if isinstance(index, tuple) else (index,)
    for item in items:
        if isinstance(item, bool) or (isinstance(item, Tensor) and item.dtype is torch.bool):
            raise NeedsValues
    if any(isinstance(item, (Tensor, list, range)) for item in items):
        raise TypeError  # torch works out the shape
    used = sum(item is not None and item is not Ellipsis for item in items)
    out, dim = x, 0
    for item in items:
        if item is Ellipsis:
            dim += len(x.dims) - used
        elif item is None:
            out = unsqueeze(walk, out, dim)
            dim += 1
        elif isinstance(item, slice):
            start, _, step = item.indices(out.dims[dim])
            length = len(range(*item.indices(out.dims[dim])))
            if step < 1:
                raise ValueError
            if length != out.dims[dim] or step != 1:
                out = part(walk, out, dim, start, length, step)
            dim += 1
        else:
            out = select(walk, out, dim, item.__index__())
    return walk.view(x, x.dims, x.field, x.steps) if out is x else out


def setitem(walk: Walk, input: Tensor, index: Any, value: Any) -> None:
    x = walk.node(input)
    sources = [x, *([walk.node(value)] if isinstance(value, Tensor) else [])]
    fed = any(t.fed for t in sources)
    walk.overwrite(x, sources, x.field if len(sources) == 1 or not fed else UNKNOWN)


def same_elements(walk: Walk, input: Tensor, *_: Any, **__: Any) -> ShapeTensor:
    """detach, .data: a view that takes no gradient back."""
    x = walk.node(input)
    out = walk.view(x, x.dims, x.field, x.steps)
    out.needs = False
    return out


RULES: dict[str, Rule] = {
    "view": view,
    "reshape": reshape,
    "view_as": view_as,
    "reshape_as": view_as,
    "flatten": flatten,
    "unflatten": unflatten,
    "squeeze": squeeze,
    "unsqueeze": unsqueeze,
    "permute": permute,
    "transpose": transpose,
    "swapaxes": transpose,
    "swapdims": transpose,
    "t": transposed_last,
    "adjoint": transposed_last,
    "movedim": movedim,
    "moveaxis": movedim,
    "expand": expand,
    "broadcast_to": expand,
    "expand_as": expand_as,
    "select": select,
    "narrow": narrow,
    "split": split,
    "chunk": chunk,
    "unbind": unbind,
    "__iter__": iterate,
    "__getitem__": getitem,
    "__setitem__": setitem,
    "detach": same_elements,
    "__deepcopy__": same_elements,
}
ATTRIBUTES: dict[str, Rule] = {"T": turned, "mT": transposed_last, "data": same_elements}
