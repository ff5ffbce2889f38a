"""Output sizes by formula: windows that slide, adaptive windows, margins, factors, joins."""

from collections.abc import Iterator
from itertools import zip_longest
from math import ceil, floor
from typing import Any

from ..table import Row, Shape
from .formula import Line, by_axis, equal, first

POOLS = tuple(f"{kind}_pool{n}d" for kind in ("max", "avg", "lp") for n in (1, 2, 3))


def base(op: str) -> str:
    """max_pool2d for max_pool2d_with_indices: the same windows."""
    return op.removesuffix("_with_indices")


def numbers(row: Row, name: str) -> Shape:
    """A setting that has one number an axis; empty where the table does not have it."""
    given = row.setting.get(name)
    return tuple(int(v) for v in given if v is not None) if isinstance(given, tuple) else ()


def is_stage(row: Row) -> bool:
    """Whether the row stands for several operations, as in `Table.stages`."""
    return " " in row.op


def groups_of(row: Row) -> int:
    given = row.setting.get("groups")
    return given if isinstance(given, int) else 1


def paddings(row: Row) -> Shape:
    """Elements before the map, per axis; "same" puts the odd one behind it."""
    kernel = numbers(row, "kernel")
    given = row.setting.get("padding")
    if given == "same":
        return tuple(d * (k - 1) // 2 for k, d in zip(kernel, numbers(row, "dilation"), strict=True))
    return (0,) * len(kernel) if given == "valid" else numbers(row, "padding")


def size_lines(row: Row) -> list[Line]:
    """How the output's size comes about, per axis; nothing where the operation keeps its input's."""
    op = base(row.op)
    if op in ("cat", "concat", "concatenate"):
        return _joined(row)
    if not row.inputs or len(row.inputs[0]) < 2:
        return []
    shape, out = row.inputs[0], row.output
    if numbers(row, "kernel") and (op.startswith("conv") or op in POOLS):
        return _slid(row, shape)
    if op.startswith("adaptive_") and numbers(row, "size"):
        n = len(numbers(row, "size"))
        return by_axis("output", [_adapted(a, b) for a, b in zip(shape[-n:], out[-n:], strict=True)])
    if op in ("pad", "constant_pad_nd"):
        return _padded(row, shape)
    if op in ("interpolate", "upsample"):
        return _resized(row, shape)
    return []


def _slid(row: Row, shape: Shape) -> list[Line]:
    kernel, n = numbers(row, "kernel"), len(numbers(row, "kernel"))
    steps, rates, same = numbers(row, "stride"), numbers(row, "dilation"), row.setting.get("padding") == "same"
    before, more = paddings(row), numbers(row, "output_padding")
    if len(shape) <= n or not (len(steps) == len(rates) == len(before) == n):
        return []
    texts = []
    for i in range(n):
        length, out, k, s, p, d = shape[i - n], row.output[i - n], kernel[i], steps[i], before[i], rates[i]
        if row.op.startswith("conv_transpose"):
            window = f"{k}" if d == 1 else f"{d}*({k} - 1) + 1"
            tries = [f"({length} - 1)*{s} - 2*{p} + {window}{f' + {more[i]}' if more and more[i] else ''}"]
        else:
            margin = f"{d * (k - 1)}" if same else f"2*{p}"
            inner = f"({length} + {margin} - {f'{k}' if d == 1 else f'{d}*({k} - 1) - 1'}) / {s}"
            tries = [f"{inner} + 1", f"floor({inner}) + 1", f"ceil({inner}) + 1"]
        shown = first(out, tries)
        if shown is None:
            return []
        texts.append(shown)
    return by_axis("output", texts)


def _adapted(length: int, size: int) -> str:
    if size == 1:
        return f"1: a window over all {length}"
    if shown := equal(f"{length} / {size}", length // size):
        return f"{size}: windows of {shown}"
    spans = {ceil((i + 1) * length / size) - floor(i * length / size) for i in range(size)}
    wide = f"{min(spans)} to {max(spans)}" if len(spans) > 1 else f"{min(spans)}"
    return f"{size}: window i from floor(i * {length} / {size}) to ceil((i + 1) * {length} / {size}), {wide} wide"


def _padded(row: Row, shape: Shape) -> list[Line]:
    margins = numbers(row, "pad")
    lines = []
    for back, (left, right) in enumerate(zip_longest(margins[::2], margins[1::2], fillvalue=0), 1):
        shown = equal(f"{shape[-back]} + {left} + {right}", row.output[-back])
        if (left or right) and shown:
            lines.append(shown)
    return by_axis("output", lines[::-1]) if lines else []


def _resized(row: Row, shape: Shape) -> list[Line]:
    factor: Any = row.setting.get("scale_factor")
    factors = factor if isinstance(factor, tuple) else (factor,) * (len(shape) - 2)
    texts = []
    for length, out, f in zip(shape[2:], row.output[2:], factors, strict=False):
        whole = isinstance(f, (int, float)) and float(f).is_integer()
        texts.append((whole and equal(f"{length} * {int(f)}", out)) or f"{out}: as was asked for, from {length}")
    return by_axis("output", texts) if texts else []


def _joined(row: Row) -> list[Line]:
    """The dimension along which the parts add up; what is left over is a learned part."""
    for dim in _differing(row):
        parts = [s[dim] for s in row.inputs]
        rest = row.output[dim] - sum(parts)
        shown = equal(" + ".join(map(str, [rest] * (rest > 0) + parts)), row.output[dim])
        if shown:
            return [("output", f"{shown} along dimension {dim}")]
    return []


def _differing(row: Row) -> Iterator[int]:
    given: Any = row.setting.get("dim", row.setting.get("axis"))
    rank = len(row.output)
    if any(len(s) != rank for s in row.inputs):
        return
    if isinstance(given, int) and -rank <= given < rank:
        yield given % rank
    yield from (d for d in range(rank) if any(s[d] != row.output[d] for s in row.inputs))
