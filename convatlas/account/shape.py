"""A tensor that has a shape, a type and a device, and no values: what walks through a network instead of images."""

from math import prod
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from ..errors import BadInput
from ..units import shape as times
from .field import Field, Shape


class ShapeTensor(Tensor):
    """Passes for a Tensor everywhere; a Walk answers every function that is called on it.

    Reading the shape is by far the most frequent call, so it is answered here, without the way through torch.
    """

    __slots__ = (
        "base",
        "dims",
        "fed",
        "field",
        "kept",
        "kind",
        "learned",
        "needs",
        "owes",
        "place",
        "steps",
        "stood_for",
    )
    dims: Shape  # its shape as a plain tuple
    kind: torch.dtype
    place: torch.device
    field: Field  # which pixels of the input it depends on; None: on none
    fed: bool  # depends on the network's input
    learned: bool  # is made of parameters
    owes: tuple[Tensor, ...]  # parameters that it shows a view of and that no operation has used yet
    steps: Shape | None  # strides; None: contiguous
    base: "ShapeTensor | None"  # whose elements it shows, where it is a view
    needs: bool  # a gradient is wanted for it: autograd's requires_grad
    kept: bool  # autograd keeps its memory for the backward pass; says nothing about a view
    stood_for: Tensor | None  # the parameter, buffer or constant that it stands for

    shape = property(lambda self: torch.Size(self.dims))
    dtype = property(attrgetter("kind"))
    device = property(attrgetter("place"))
    ndim = property(lambda self: len(self.dims))
    requires_grad = property(attrgetter("needs"), lambda self, wanted: None)

    def size(self, dim: int | None = None) -> Any:
        return torch.Size(self.dims) if dim is None else self.dims[dim]

    def dim(self) -> int:
        return len(self.dims)

    def numel(self) -> int:
        return prod(self.dims)

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"ShapeTensor({times(self.dims) or 'one number'}, {self.kind})"

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Reached only when no walk is on: a shape that outlived its walk."""
        raise BadInput(f"{getattr(func, '__name__', func)}: a tensor of an account has a shape and no values")

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Reached by code that goes around torch's functions: scripted modules, C++ extensions."""
        raise NotImplementedError(f"{func} needs values; scripted and compiled code cannot be walked on shapes")


_make = Tensor._make_wrapper_subclass


def new(dims: Shape, kind: torch.dtype, place: torch.device, steps: Shape | None = None) -> ShapeTensor:
    """A constant: depends on no input and no parameter until the caller says so."""
    t: ShapeTensor = _make(ShapeTensor, dims, steps, None, None, kind, torch.strided, place)
    t.dims = dims
    t.kind = kind
    t.place = place
    t.steps = steps
    t.field = t.base = None
    t.fed = t.learned = t.needs = t.kept = False
    t.owes = ()
    t.stood_for = None
    return t


def dims(t: Tensor) -> Shape:
    return t.dims if type(t) is ShapeTensor else tuple(t.shape)


def field_of(t: Tensor) -> Field:
    return t.field if type(t) is ShapeTensor else None


# ---- Strides: which reshapes copy ----------------------------------------------------------------------------------


def contiguous(shape: Shape) -> Shape:
    """Strides of a tensor laid out row by row."""
    out = [1] * len(shape)
    for d in range(len(shape) - 2, -1, -1):
        out[d] = out[d + 1] * max(shape[d + 1], 1)
    return tuple(out)


def plain(shape: Shape, steps: Shape) -> Shape | None:
    """None where these strides are the contiguous ones; dimensions of size one may have any."""
    same = all(n == 1 or a == b for n, a, b in zip(shape, steps, contiguous(shape), strict=True))
    return None if same else steps


def strides(t: ShapeTensor) -> Shape:
    return t.steps if t.steps is not None else contiguous(t.dims)


def dense(t: ShapeTensor) -> bool:
    """A permutation of contiguous memory: element-wise functions keep such a layout."""
    if t.steps is None:
        return True
    step = 1
    for s, n in sorted((s, n) for s, n in zip(t.steps, t.dims, strict=True) if n != 1):
        if s != step:
            return False
        step *= n
    return True


def restrided(t: ShapeTensor, shape: Shape) -> Shape | None:
    """Strides with which the same memory shows another shape; None where it has to be copied (ATen's computeStride)."""
    old, steps = t.dims, strides(t)
    out = [0] * len(shape)
    place = len(shape) - 1
    step, have, shown = (steps[-1] if steps else 1), 1, 1
    for d in range(len(old) - 1, -1, -1):
        have *= old[d]
        if d > 0 and (old[d - 1] == 1 or steps[d - 1] == have * step):
            continue
        while place >= 0 and (shown < have or shape[place] == 1):
            out[place] = shown * step
            shown *= shape[place]
            place -= 1
        if shown != have:
            return None
        if d > 0:
            step, have, shown = steps[d - 1], 1, 1
    return tuple(out) if place == -1 else None


def channels_last(shape: Shape, steps: Shape | None) -> bool:
    """Whether torch takes this layout for channels last (c10's is_channels_last_strides), which convolutions keep."""
    if steps is None or len(shape) not in (4, 5):
        return False
    least = 0
    if steps[1] == 0:
        return False
    for d in (1, *range(len(shape) - 1, 1, -1), 0):
        if shape[d] == 0 or steps[d] < least:
            return False
        if d == 0 and least == steps[1]:
            return False
        least = steps[d] * max(shape[d], 1)
    return True


def channels_last_strides(shape: Shape) -> Shape:
    n, c, *space = shape
    first, *inner, last = contiguous((n, *space, c))
    return (first, last, *inner)


def like(t: ShapeTensor) -> Shape | None:
    """Strides of `empty_like`: those of a dense layout; else dense ones in the same order of strides."""
    if t.steps is None:
        return None
    order = sorted(range(len(t.dims)), key=lambda d: (t.steps[d], -d))  # type: ignore[index]
    out, step = [0] * len(t.dims), 1
    for d in order:
        out[d] = step
        step *= max(t.dims[d], 1)
    return plain(t.dims, tuple(out))
