"""Numbers as people read them; the only place that formats. Counts stay exact integers until they come here."""

from fractions import Fraction
from math import floor, log10
from re import fullmatch

SI = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))


def count(n: float, unit: str = "", digits: int = 3) -> str:
    """A count with an SI prefix: 25557032 -> "25.6 M"; with a unit: 3857973248, "MACs" -> "3.86 GMACs"."""
    for size, prefix in SI:
        if abs(n) >= size * (1 - 0.5 * 10**-digits):
            return f"{_significant(n / size, digits)} {prefix}{unit}"
    text = f"{n:,}" if isinstance(n, int) else _significant(n, digits)
    return f"{text} {unit}".rstrip()


def exact(n: int) -> str:
    """All digits, grouped: 25557032 -> "25,557,032"."""
    return f"{n:,}"


def size(n: float) -> str:
    """Bytes in decimal units: 102228128 -> "102 MB"."""
    return count(n, "B")


def seconds(s: float) -> str:
    """A length of time: "840 ms", "12.3 s", "4 min 05 s", "2 h 10 min"."""
    if s < 1:
        return f"{s * 1000:.3g} ms"
    if s < 60:
        return f"{s:.1f} s"
    if s < 3600:
        return f"{int(s // 60)} min {int(s % 60):02d} s"
    return f"{int(s // 3600)} h {int(s % 3600 // 60):02d} min"


def milliseconds(ms: float) -> str:
    return f"{_significant(ms, 3)} ms"


def percent(share: float) -> str:
    """A share of one with one decimal: 0.98333 -> "98.3 %"."""
    return f"{100 * share:.1f} %"


def of(k: int, n: int) -> str:
    """k of n with its share: "354 of 360 (98.3 %)"."""
    return f"{k:,} of {n:,} ({percent(k / n) if n else 'none'})"


def shape(dims: tuple[int, ...]) -> str:
    """(3, 224, 224) -> "3x224x224"."""
    return "x".join(str(d) for d in dims)


def read_shape(text: str) -> tuple[int, ...]:
    """ "3x224x224" -> (3, 224, 224). Raises ValueError for anything but whole numbers joined by x."""
    dims = tuple(int(part) for part in text.lower().split("x"))
    if not dims or min(dims) < 1:
        raise ValueError(f"{text!r} is no shape")
    return dims


def read_size(text: str) -> int:
    """Bytes: "24GB" -> 24000000000, "8 GiB" -> 8589934592. Raises ValueError."""
    found = fullmatch(r"(\d+(?:\.\d+)?)\s*([kMGT]?)(i?)B", text.strip())
    if not found:
        raise ValueError(f"{text!r} is no size")
    power = " kMGT".index(found[2] or " ")
    return int(Fraction(found[1]) * (1024 if found[3] else 1000) ** power)


def _significant(x: float, digits: int) -> str:
    """`digits` significant figures without an exponent: 3.8579 -> "3.86", 102.2 -> "102", 0.0936 -> "0.0936"."""
    rounded = float(f"{abs(x):.{digits - 1}e}")
    whole = floor(log10(rounded)) + 1 if rounded else 1
    return f"{x:,.{max(digits - whole, 0)}f}"
