"""The copies that torch makes on the CPU for its convolutions, while each runs."""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import torch

Shape = tuple[int, ...]


class Convolution(NamedTuple):
    """What decides which copies the CPU makes: shapes (batch first) and the elements' type."""

    input: Shape
    weight: Shape
    output: Shape
    kind: torch.dtype
    groups: int
    backward: bool
    native: bool  # stride and dilation are 1
    last: bool  # channels last in memory
    wanted: bool  # the gradient of the input
    part: bool  # the gradient that comes in is a part of a larger one (behind a concatenation) and is copied first


def convolution_of(func: Any, args: Sequence[Any], out: Any) -> Convolution | None:
    backward = func is torch.ops.aten.convolution_backward.default
    if not backward and func is not torch.ops.aten.convolution.default:
        return None
    grad, x, weight, _, stride, _, dilation, _, _, groups, *_ = args if backward else (out, *args)
    wanted = backward and args[-1][0]
    last = x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    native = set(stride) == {1} == set(dilation)
    layout = torch.channels_last if last else torch.contiguous_format
    part = backward and not grad.is_contiguous(memory_format=layout)
    shapes = tuple(x.shape), tuple(weight.shape), tuple(grad.shape)
    return Convolution(*shapes, x.dtype, groups, backward, native, last, wanted, part)


def copies(c: Convolution) -> int:
    """Bytes at the highest point of a convolution on the CPU, from its inputs up, its results included.

    oneDNN wants channels in blocks, copies input, weight and result into them, and the result back before its blocks go
    (aten/src/ATen/native/mkldnn/Conv.cpp); the gradient of the input comes first, that of the weight after it. The
    conditions under which torch takes its own kernel instead are those of use_mkldnn in ATen/native/Convolution.cpp.
    """
    return _at_most(c) + (prod(c.output) * c.kind.itemsize if c.part else 0)


def _at_most(c: Convolution) -> int:
    item = c.kind.itemsize
    x, w, y = (prod(s) * item for s in (c.input, c.weight, c.output))
    if _own_kernel(c):
        pointwise = set(c.weight[2:]) == {1} and c.native
        columns = 0 if pointwise else item * c.output[0] * prod(c.weight[1:]) * prod(c.output[2:])
        return columns + (x * c.wanted + w if c.backward else y)
    if c.last:
        return 2 * w + y if not c.backward else x * c.wanted + 4 * w
    inner = c.input[1] // c.groups
    half, again = c.kind is torch.bfloat16, 1 + (item == 2)  # half-precision results are copied once more
    plain = c.groups > 1 and inner > 1 and inner % BLOCK  # groups that do not fill blocks stay as they are
    thin = c.input[1] < BLOCK and not half  # images are read as they are
    blocked = _blocked if item > 2 else prod  # half precision keeps channels last, without blocks
    xs = 0 if plain or thin else blocked(c.input) * item
    ys = 0 if plain else blocked(c.output) * item
    if not c.backward:
        return max(xs + w + ys, y + again * (ys or y))
    dx = x * c.wanted
    data = max(ys + w + (xs or x), again * (xs or x) + x) if c.wanted else 0
    summed = 2 * w * half  # the gradient of half-precision weights is summed in float32
    return max(data, dx + xs + ys + w + summed, dx + 2 * w)


BLOCK = 16 if "AVX512" in torch.backends.cpu.get_cpu_capability() else 8


def _blocked(shape: Shape) -> int:
    """Elements with the channels filled up to whole blocks."""
    return shape[0] * -(-shape[1] // BLOCK) * BLOCK * prod(shape[2:])


def _own_kernel(c: Convolution) -> bool:
    if c.kind is not torch.float32:
        return False
    small = c.groups == 1 and c.input[0] == 1 and not min(c.weight[-2:]) > 3 and prod(c.input) <= 20480
    alone = torch.get_num_threads() == 1
    return small or (alone and c.native and c.input[0] < 16 and set(c.weight[2:]) == {1})
