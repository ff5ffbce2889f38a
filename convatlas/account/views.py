"""Rules for functions that show, cut, join or copy elements. Views make no row; copies and joins do."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from .field import ALL, UNKNOWN, Axis, Field, Shape, chosen, permuted, reshaped, sliced, union
from .shape import ShapeTensor, contiguous, dims, field_of, plain, restrided, strides
from .walk import Clash, NeedsValues, Rule, Walk


def _sizes(args: Sequence[Any]) -> tuple[int, ...]:
    """view(2, 3) and view((2, 3))."""
    return tuple(args[0]) if len(args) == 1 and isinstance(args[0], (tuple, list)) else tuple(args)


def _filled(shape: tuple[int, ...], old: Shape) -> Shape:
    """-1 stands for what is left."""
    total = prod(old)
    if -1 in shape:
        rest = -prod(shape)
        shape = tuple(total // rest if n == -1 else n for n in shape)
    if prod(shape) != total or min(shape, default=1) < 0:
        raise Clash(
            f"{total:,} elements do not make {'x'.join(map(str, shape))}; the layers before give another size of map"
        )
    return shape


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
        return out
    return _as(walk, x, _filled(_sizes(args), x.dims), False)


def reshape(walk: Walk, input: Tensor, *args: Any, **kwargs: Any) -> ShapeTensor:
    x = walk.node(input)
    return _as(walk, x, _filled(_sizes(args or tuple(kwargs.values())), x.dims), True)


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
    return walk.view(x, shape, _inserted(x.field, dim), steps)


def _inserted(field: Field, dim: int) -> Field:
    return tuple(a._replace(dim=a.dim + 1) if a.dim >= dim else a for a in field) if field else field


def permute(walk: Walk, input: Tensor, *args: Any, **kwargs: Any) -> ShapeTensor:
    x = walk.node(input)
    d = range(len(x.dims))
    return _permuted(walk, x, [d[i] for i in _sizes(args or tuple(kwargs.values()))])


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
    wanted = _sizes(args or tuple(kwargs.values()))
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


def index_select(walk: Walk, input: Tensor, dim: int, index: Tensor) -> ShapeTensor:
    x = walk.node(input)
    dim = range(len(x.dims))[dim]
    field = UNKNOWN if x.field and any(a.dim == dim for a in x.field) else x.field
    return walk.compute((x,), (*x.dims[:dim], prod(dims(index)), *x.dims[dim + 1 :]), field)


# ---- Joins and copies ----------------------------------------------------------------------------------------------


def cat(walk: Walk, tensors: Sequence[Tensor], dim: int = 0, **kwargs: Any) -> ShapeTensor:
    """Each element of the result sees what the elements at its place saw in any of the parts."""
    parts = [walk.node(t) for t in tensors]
    parts = [t for t in parts if t.dims != (0,)] or parts
    first = parts[0].dims
    dim = range(len(first))[kwargs.get("axis", dim)]
    if any(
        len(t.dims) != len(first) or t.dims[:dim] + t.dims[dim + 1 :] != first[:dim] + first[dim + 1 :] for t in parts
    ):
        raise ValueError
    shape = (*first[:dim], sum(t.dims[dim] for t in parts), *first[dim + 1 :])
    field: Field
    if any(t.field and any(a.dim == dim for a in t.field) for t in parts):
        field = UNKNOWN
    else:
        field = union([(t.field, t.dims) for t in parts], len(first))
    kind = parts[0].kind
    for t in parts:
        kind = kind if t.kind == kind else torch.promote_types(kind, t.kind)
    return walk.compute(parts, shape, field, 0, kind)


def stack(walk: Walk, tensors: Sequence[Tensor], dim: int = 0) -> ShapeTensor:
    parts = [walk.node(t) for t in tensors]
    first = parts[0].dims
    if any(t.dims != first for t in parts):
        raise ValueError
    dim = range(len(first) + 1)[dim]
    field = union([(t.field, t.dims) for t in parts], len(first))
    return walk.compute(parts, (*first[:dim], len(parts), *first[dim:]), _inserted(field, dim))


def repeat(walk: Walk, input: Tensor, *args: Any) -> ShapeTensor:
    x, times = walk.node(input), _sizes(args)
    old = (1,) * (len(times) - len(x.dims)) + x.dims
    shape = tuple(n * r for n, r in zip(old, times, strict=True))
    field = x.field
    if field:
        shift = len(shape) - len(x.dims)
        still = all(a.dim == ALL or times[a.dim + shift] == 1 for a in field)
        field = tuple(a if a.dim == ALL else a._replace(dim=a.dim + shift) for a in field) if still else UNKNOWN
    return walk.compute((x,), shape, field)


def same_elements(walk: Walk, input: Tensor, *_: Any, **__: Any) -> ShapeTensor:
    """detach, alias, .data: a view without more."""
    x = walk.node(input)
    return walk.view(x, x.dims, x.field, x.steps)


def copied(walk: Walk, input: Tensor, *_: Any, **__: Any) -> ShapeTensor:
    x = walk.node(input)
    return walk.compute((x,), x.dims, x.field)


def made_contiguous(
    walk: Walk, input: Tensor, memory_format: torch.memory_format = torch.contiguous_format
) -> ShapeTensor:
    """A copy only where the layout differs."""
    x = walk.node(input)
    wanted = contiguous(x.dims)
    if memory_format in (torch.channels_last, torch.channels_last_3d) and len(x.dims) > 3:
        n, c, *space = x.dims
        first, *inner, last = contiguous((n, *space, c))
        wanted = (first, last, *inner)
    if plain(x.dims, strides(x)) == plain(x.dims, wanted):
        return x
    out = walk.compute((x,), x.dims, x.field)
    out.steps = plain(x.dims, wanted)
    return out


def to(walk: Walk, input: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Another type or device; the tensor itself where neither changes."""
    x = walk.node(input)
    kind, place = x.kind, x.place
    for value in (*args, *kwargs.values()):
        if isinstance(value, torch.dtype):
            kind = value
        elif isinstance(value, Tensor):
            kind, place = value.dtype, value.device
        elif isinstance(value, (str, torch.device)):
            place = torch.device(value)
    if (kind, place) == (x.kind, x.place) and not kwargs.get("copy"):
        return x
    out = walk.compute((x,), x.dims, x.field, 0, kind)
    out.place = place
    return out


def cast(kind: torch.dtype) -> Rule:
    def rule(walk: Walk, input: Tensor, *_: Any, **__: Any) -> Any:
        return to(walk, input, kind)

    return rule


CASTS = {
    "float": torch.float32, "double": torch.float64, "half": torch.float16, "bfloat16": torch.bfloat16,
    "int": torch.int32, "long": torch.int64, "short": torch.int16, "char": torch.int8, "byte": torch.uint8,
    "bool": torch.bool, "cfloat": torch.complex64, "cdouble": torch.complex128,
}  # fmt: skip


def type_of(walk: Walk, input: Tensor, dtype: Any = None, *_: Any, **__: Any) -> Any:
    if not isinstance(dtype, torch.dtype):
        raise TypeError
    return to(walk, input, dtype)


def on_cpu(walk: Walk, input: Tensor, *_: Any, **__: Any) -> Any:
    return to(walk, input, "cpu")


def embedding(walk: Walk, input: Tensor, weight: Tensor, *_: Any, **__: Any) -> ShapeTensor:
    """(...) and (entries, width) -> (..., width)."""
    field = field_of(input)
    return walk.compute((weight, input), (*dims(input), dims(weight)[1]), field)


RULES: dict[str, Rule] = {
    "view": view, "reshape": reshape, "view_as": view_as, "reshape_as": view_as, "flatten": flatten,
    "unflatten": unflatten, "squeeze": squeeze, "unsqueeze": unsqueeze, "permute": permute, "transpose": transpose,
    "swapaxes": transpose, "swapdims": transpose, "t": transposed_last, "adjoint": transposed_last, "movedim": movedim,
    "moveaxis": movedim, "expand": expand, "broadcast_to": expand, "expand_as": expand_as, "select": select,
    "narrow": narrow, "split": split, "chunk": chunk, "unbind": unbind, "__iter__": iterate, "__getitem__": getitem,
    "__setitem__": setitem, "index_select": index_select, "cat": cat, "concat": cat, "concatenate": cat, "stack": stack,
    "repeat": repeat, "detach": same_elements, "__deepcopy__": same_elements, "clone": copied,
    "contiguous": made_contiguous, "to": to, "type_as": to, "type": type_of, "cpu": on_cpu, "embedding": embedding,
    **{name: cast(kind) for name, kind in CASTS.items()},
}  # fmt: skip
ATTRIBUTES: dict[str, Rule] = {"T": turned, "mT": transposed_last, "data": same_elements}
