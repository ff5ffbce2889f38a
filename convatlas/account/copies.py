"""Rules for functions that join or copy elements, or give them another type. Each makes a row."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from .field import ALL, UNKNOWN, Field, inserted, union
from .shape import ShapeTensor, contiguous, dims, field_of, plain, strides
from .views import sizes_of
from .walk import Rule, Walk


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
    return walk.compute(parts, (*first[:dim], len(parts), *first[dim:]), inserted(field, dim))


def repeat(walk: Walk, input: Tensor, *args: Any) -> ShapeTensor:
    x, times = walk.node(input), sizes_of(args)
    old = (1,) * (len(times) - len(x.dims)) + x.dims
    shape = tuple(n * r for n, r in zip(old, times, strict=True))
    field = x.field
    if field:
        shift = len(shape) - len(x.dims)
        still = all(a.dim == ALL or times[a.dim + shift] == 1 for a in field)
        field = tuple(a if a.dim == ALL else a._replace(dim=a.dim + shift) for a in field) if still else UNKNOWN
    return walk.compute((x,), shape, field)


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


def index_select(walk: Walk, input: Tensor, dim: int, index: Tensor) -> ShapeTensor:
    x = walk.node(input)
    dim = range(len(x.dims))[dim]
    field = UNKNOWN if x.field and any(a.dim == dim for a in x.field) else x.field
    return walk.compute((x,), (*x.dims[:dim], prod(dims(index)), *x.dims[dim + 1 :]), field)


def embedding(walk: Walk, input: Tensor, weight: Tensor, *_: Any, **__: Any) -> ShapeTensor:
    """(...) and (entries, width) -> (..., width)."""
    field = field_of(input)
    return walk.compute((weight, input), (*dims(input), dims(weight)[1]), field)


RULES: dict[str, Rule] = {
    "cat": cat,
    "concat": cat,
    "concatenate": cat,
    "stack": stack,
    "repeat": repeat,
    "clone": copied,
    "contiguous": made_contiguous,
    "to": to,
    "type_as": to,
    "type": type_of,
    "cpu": on_cpu,
    "embedding": embedding,
    "index_select": index_select,
    **{name: cast(kind) for name, kind in CASTS.items()},
}
