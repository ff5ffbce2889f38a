"""Rules for what slides over a map and multiplies no weights: pooling, padding, resizing, moving pixels."""

from math import floor
from typing import Any

import torch
from torch import Tensor

from .field import UNKNOWN, Axis, Field, Shape, blurred, whole, window
from .products import several
from .shape import ShapeTensor, dims, field_of
from .walk import Clash, Rule, Walk


def pooled(length: int, kernel: int, stride: int, padding: int, dilation: int, ceil: bool) -> int:
    """Windows that fit; with ceil one more that starts inside the map or its left padding may hang over."""
    span = dilation * (kernel - 1)
    room = length + 2 * padding - span - 1
    if padding * 2 > kernel or (room < 0 and not ceil):
        raise Clash(
            f"the window of {span + 1} is larger than the padded map of {length + 2 * padding}; give a larger input"
        )
    size = (room + (stride - 1 if ceil else 0)) // stride + 1
    if ceil and (size - 1) * stride >= length + padding:
        size -= 1
    if size < 1:
        raise ValueError
    return size


def slide(walk: Walk, input: Tensor, n: int, windows: tuple[Any, Any, Any, Any], ceil: bool) -> ShapeTensor:
    """One output for each window along the last n axes. `windows`: kernel, stride, padding, dilation."""
    shape = dims(input)
    kernel, stride, padding, dilation = windows
    k = several(kernel, n)
    s = k if stride is None or stride == [] else several(stride, n)
    p, d = several(padding, n), several(dilation, n)
    lead = len(shape) - n
    if lead not in (1, 2):
        raise ValueError
    size = [pooled(shape[lead + i], k[i], s[i], p[i], d[i], ceil) for i in range(n)]
    field = field_of(input)
    if field:
        places = [(a, a.dim - lead) for a in field]
        field = tuple(window(a, d[i] * (k[i] - 1), s[i], p[i]) if i >= 0 else a for a, i in places)
    walk.setting = {"kernel": k, "stride": s, "padding": p, "dilation": d, "ceil_mode": bool(ceil)}
    return walk.compute((input,), (*shape[:lead], *size), field)


def max_pool(n: int, indices: bool = False) -> Rule:
    def rule(
        walk: Walk,
        input: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        out = slide(walk, input, n, (kernel_size, stride, padding, dilation), ceil_mode)
        return (out, _places(walk, out)) if indices or return_indices else out

    return rule


def _places(walk: Walk, out: ShapeTensor) -> ShapeTensor:
    """Where each maximum stood."""
    return walk.beside(out, out.dims, torch.int64)


def avg_pool(n: int) -> Rule:
    def rule(
        walk: Walk,
        input: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> ShapeTensor:
        out = slide(walk, input, n, (kernel_size, stride, padding, 1), ceil_mode)
        if walk.notes and walk.notes[-1]["output"] is out.dims:
            walk.notes[-1]["setting"] |= {"count_include_pad": bool(count_include_pad), "divisor": divisor_override}
        return out

    return rule


def lp_pool(n: int) -> Rule:
    def rule(
        walk: Walk, input: Tensor, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
    ) -> ShapeTensor:
        return slide(walk, input, n, (kernel_size, stride, 0, 1), ceil_mode)

    return rule


def adaptive(n: int, indices: bool = False) -> Rule:
    """A fixed output size: window i covers floor(i * in / out) .. ceil((i + 1) * in / out)."""

    def rule(walk: Walk, input: Tensor, output_size: Any, return_indices: bool = False) -> Any:
        shape = dims(input)
        lead = len(shape) - n
        if lead not in (1, 2):
            raise ValueError
        wanted = several(output_size, n)
        size = tuple(shape[lead + i] if wanted[i] is None else wanted[i] for i in range(n))
        field = field_of(input)
        if field:
            field = tuple(_adapted(a, shape, size[a.dim - lead]) if a.dim >= lead else a for a in field)
        walk.setting = {"size": size}
        out = walk.compute((input,), (*shape[:lead], *size), field)
        return (out, _places(walk, out)) if indices or return_indices else out

    return rule


def _adapted(axis: Axis, shape: Shape, size: int) -> Axis:
    length = shape[axis.dim]
    if size == 1:
        return whole(axis, shape, axis.dim)
    if length % size == 0:
        return window(axis, length // size - 1, length // size, 0)
    return blurred(axis, shape, axis.dim)


def pad(walk: Walk, input: Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> ShapeTensor:
    """New elements at both ends of the last axes; negative numbers cut off."""
    shape = list(dims(input))
    margins = list(zip(pad[::2], pad[1::2], strict=True))
    before = {}
    for d, (left, right) in zip(range(len(shape) - 1, -1, -1), margins, strict=False):
        if mode == "reflect" and max(left, right) >= shape[d]:
            raise ValueError
        if mode == "circular" and max(left, right) > shape[d]:
            raise ValueError
        shape[d] += left + right
        before[d] = left
    if min(shape) < 0 or len(margins) > len(shape):
        raise ValueError
    field = field_of(input)
    if field:
        if any(a.mixed and before.get(a.dim) for a in field):
            field = UNKNOWN
        else:
            field = tuple(window(a, 0, 1, before.get(a.dim, 0)) if a.dim >= 0 else a for a in field)
    return walk.compute((input,), tuple(shape), field)


def interpolate(
    walk: Walk, input: Tensor, size: Any = None, scale_factor: Any = None, *_: Any, **__: Any
) -> ShapeTensor:
    shape = dims(input)
    n = len(shape) - 2
    if size is not None:
        new = several(size, n)
    else:
        factors = (scale_factor,) * n if isinstance(scale_factor, (int, float)) else tuple(scale_factor)
        new = tuple(floor(length * f) for length, f in zip(shape[2:], factors, strict=True))
    if min(new) < 1:
        raise ValueError
    field: Field = field_of(input)
    if field and new != shape[2:]:
        field = tuple(blurred(a, shape, a.dim) if a.dim >= 2 else a for a in field)
    return walk.compute((input,), (*shape[:2], *new), field)


def pixel_shuffle(walk: Walk, input: Tensor, upscale_factor: int) -> ShapeTensor:
    """(..., C*r*r, H, W) -> (..., C, H*r, W*r)."""
    *lead, c, h, w = dims(input)
    r = upscale_factor
    if c % (r * r):
        raise ValueError
    return walk.compute((input,), (*lead, c // (r * r), h * r, w * r), _moved(input))


def pixel_unshuffle(walk: Walk, input: Tensor, downscale_factor: int) -> ShapeTensor:
    """(..., C, H*r, W*r) -> (..., C*r*r, H, W); channels together see the block of r*r pixels."""
    *lead, c, h, w = shape = dims(input)
    r = downscale_factor
    if h % r or w % r:
        raise ValueError
    field = field_of(input)
    if field:
        field = tuple(window(a, r - 1, r, 0) if a.dim >= len(shape) - 2 else a for a in field)
    return walk.compute((input,), (*lead, c * r * r, h // r, w // r), field)


def channel_shuffle(walk: Walk, input: Tensor, groups: int) -> ShapeTensor:
    if dims(input)[1] % groups:
        raise ValueError
    return walk.compute((input,), dims(input), field_of(input))


def moved(walk: Walk, input: Tensor, *args: Any, **kwargs: Any) -> ShapeTensor:
    """flip and roll: the same elements elsewhere."""
    turned = args[0] if len(args) == 1 else kwargs.get("dims", args[-1] if args else ())
    rank = len(dims(input))
    places = {d % rank for d in ((turned,) if isinstance(turned, int) else turned)}
    field = field_of(input)
    if field and (not places or any(a.dim in places for a in field)):
        field = _moved(input)
    return walk.compute((input,), dims(input), field)


def _moved(input: Tensor) -> Field:
    field = field_of(input)
    return tuple(blurred(a, dims(input), a.dim) for a in field) if field else field


RULES: dict[str, Rule] = {
    **{f"max_pool{n}d": max_pool(n) for n in (1, 2, 3)},
    **{f"max_pool{n}d_with_indices": max_pool(n, True) for n in (1, 2, 3)},
    **{f"avg_pool{n}d": avg_pool(n) for n in (1, 2, 3)},
    **{f"lp_pool{n}d": lp_pool(n) for n in (1, 2, 3)},
    **{f"adaptive_{kind}_pool{n}d": adaptive(n) for kind in ("avg", "max") for n in (1, 2, 3)},
    **{f"adaptive_max_pool{n}d_with_indices": adaptive(n, True) for n in (1, 2, 3)},
    "pad": pad,
    "constant_pad_nd": pad,
    "interpolate": interpolate,
    "upsample": interpolate,
    "pixel_shuffle": pixel_shuffle,
    "pixel_unshuffle": pixel_unshuffle,
    "channel_shuffle": channel_shuffle,
    "native_channel_shuffle": channel_shuffle,
    "flip": moved,
}
