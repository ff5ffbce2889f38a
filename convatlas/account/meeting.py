"""What is said where two maps meet and differ in size, and which setting of which branch would make them agree."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from ..units import shape as times
from .field import Shape
from .shape import dims

Notes = Sequence[dict[str, Any]]  # the rows so far
AXES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


class Words(NamedTuple):
    """`gap`: by how much too large is what the input's size decides; -inf: the map is smaller than a window."""

    got: str
    mend: str
    gap: float | None = None


def maker(notes: Notes, shape: Shape, among: tuple[str, ...]) -> dict[str, Any] | None:
    """The last operation of these kinds that gave a map of this shape, by preference this very one: functions that keep
    a shape hand the same tuple on."""
    kinds = [n for n in reversed(notes) if n["op"].startswith(among)]
    exact = (n for n in kinds if n["output"] is shape)
    return next(exact, None) or next((n for n in kinds if n["output"] == shape), None)


def named(note: dict[str, Any]) -> str:
    return note["path"] or f"the {note['op']} before"


def meeting(
    notes: Notes, *given: Any, over: int = 0, joined: int | None = None, number: int | None = None, **_: Any
) -> Words | None:
    """Tensors that meet element by element, but for their last `over` dimensions. `joined`: the dimension of a cat."""
    tensors = [t for t in given if isinstance(t, Tensor)]
    for i, one in enumerate(tensors):
        for two in tensors[i + 1 :]:
            a, b = dims(one), dims(two)
            rank = max(len(a), len(b))
            wide = [(1,) * (rank - len(s)) + s for s in (a, b)]
            apart = [
                d
                for d, (n, m) in enumerate(zip(*wide, strict=True))
                if n != m and d != joined and d < rank - over and (1 not in (n, m) or number is not None)
            ]
            if apart:
                return _words(notes, (a, b), apart, number)
    return None


def _words(notes: Notes, pair: tuple[Shape, Shape], apart: list[int], number: int | None) -> Words:
    a, b = pair
    which = f" (tensor {number})" if number is not None else ""
    if len(a) != len(b):
        short, long = sorted(pair, key=len)
        mend = "give both the same number of dimensions, as by unsqueeze or view"
        if short == long[: len(short)]:
            mend = f"view the smaller one as {times((*short, *(1,) * (len(long) - len(short))))}"
        return Words(f"got {times(a)} and {times(b)}{which}, which do not meet from the right", mend)
    axes = ["batch", "channels", *AXES[len(a) - 2]] if len(a) in (3, 4, 5) else ["rows", "columns"]
    if len(a) not in (2, 3, 4, 5):
        axes = ["size"] * len(a)
    told = " and ".join(f"in {axes[d]} (dimension {d}: {a[d]} and {b[d]}, {abs(a[d] - b[d])} apart)" for d in apart)
    return Words(f"got {times(a)} and {times(b)}{which}, which differ {told}", _mend(notes, pair, apart))


def _mend(notes: Notes, pair: tuple[Shape, Shape], apart: list[int]) -> str:
    a, b = pair
    if apart == [1] and len(a) > 2:
        return _channels(notes, pair)
    if 0 in apart or len(a) < 3:
        return "make the two equal"
    settings = sorted(_settings(notes, pair))
    if settings and 1 not in apart:
        return settings[0][1]
    if 1 not in apart:
        return f"pad, crop or interpolate one of the two to the other's {times(b[2:])}"
    large, small = (a, b) if a[2:] > b[2:] else (b, a)
    stride = round(large[2] / small[2]) if small[2] else 0
    if stride > 1 and all(-(-n // stride) == m for n, m in zip(large[2:], small[2:], strict=True)):
        return (
            f"put a 1x1 convolution with out_channels={small[1]} and stride={stride} on the one of {times(large)}"
            if len(a) == 4
            else f"put a convolution with out_channels={small[1]} and stride={stride} on the one of {times(large)}"
        )
    return "give both branches the same strides, padding and out_channels"


def _channels(notes: Notes, pair: tuple[Shape, Shape]) -> str:
    made = [(maker(notes, s, ("conv",)), other[1]) for s, other in (pair, pair[::-1])]
    known = [f"out_channels={wanted} in {named(note)}" for note, wanted in made if note]
    return f"set {', or '.join(known)}" if known else "put a 1x1 convolution on one of the two"


def _settings(notes: Notes, pair: tuple[Shape, Shape]) -> Iterator[tuple[tuple[int, int], str]]:
    """Changes of one setting of a branch's last window that give the other branch's size, with how far they go."""
    for shape, wanted in (pair, pair[::-1]):
        note = maker(notes, shape, ("conv", "max_pool", "avg_pool"))
        if note is None or note["setting"].get("padding") in ("same", "valid"):
            continue
        s, length, n = note["setting"], note["inputs"][0][2:], len(wanted) - 2
        if "output_padding" in s:
            more = {m - k + p for m, k, p in zip(wanted[2:], shape[2:], s["output_padding"], strict=True)}
            if len(more) == 1 and 0 <= min(more) < max(*s["stride"], *s["dilation"]):
                yield (0, 1), f"set output_padding={more.pop()} in {named(note)}"
            continue
        ceil, place = s.get("ceil_mode", False), named(note)
        spans = [d * (k - 1) for d, k in zip(s["dilation"], s["kernel"], strict=True)]
        half = note["op"].startswith(("max", "avg"))
        for p in range(min(k // 2 for k in s["kernel"]) + 1 if half else max(spans) + 1):
            if _sizes(length, spans, s["stride"], (p,) * n, ceil) == wanted[2:]:
                far = max(abs(p - q) for q in s["padding"])
                yield (0, far), f"set padding={p} in {place}, which gives {times(wanted[2:])}"
        for stride in range(1, max(s["stride"]) * 4 + 1):
            if _sizes(length, spans, (stride,) * n, s["padding"], ceil) == wanted[2:]:
                far = max(abs(stride - q) for q in s["stride"])
                yield (1, far), f"set stride={stride} in {place}, which gives {times(wanted[2:])}"


def _sizes(length: Shape, spans: list[int], stride: Shape, padding: Shape, ceil: bool) -> Shape:
    out = []
    for n, span, s, p in zip(length, spans, stride, padding, strict=True):
        size = (n + 2 * p - span - 1 + (s - 1 if ceil else 0)) // s + 1
        out.append(size - 1 if ceil and (size - 1) * s >= n + p else size)
    return tuple(out)
