"""Formulas as text. A value is worked out from the text that is shown, so that the two cannot differ.

Products stand as 55*55*96, divisions as exact fractions, and large numbers in groups of three.
"""

import ast
import re
from collections.abc import Callable, Iterable, Sequence
from fractions import Fraction
from math import ceil, floor

from ..units import exact

Line = tuple[str, str]  # what is explained, and its text
NAMES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}
CALLS: dict[str, Callable[..., int | Fraction]] = {"floor": floor, "ceil": ceil, "max": max, "min": min}


def value(text: str) -> Fraction:
    """Of whole numbers, + - * /, parentheses, floor, ceil, max and min. Raises ValueError for anything else."""
    return _value(ast.parse(re.sub(r"(?<=\d),(?=\d)", "", text), mode="eval").body)


def _value(node: ast.expr) -> Fraction:
    match node:
        case ast.Constant(value=int(n)):
            return Fraction(n)
        case ast.BinOp(left=a, op=ast.Add(), right=b):
            return _value(a) + _value(b)
        case ast.BinOp(left=a, op=ast.Sub(), right=b):
            return _value(a) - _value(b)
        case ast.BinOp(left=a, op=ast.Mult(), right=b):
            return _value(a) * _value(b)
        case ast.BinOp(left=a, op=ast.Div(), right=b):
            return _value(a) / _value(b)
        case ast.UnaryOp(op=ast.USub(), operand=a):
            return -_value(a)
        case ast.Call(func=ast.Name(id=name), args=parts) if name in CALLS:
            return Fraction(CALLS[name](*map(_value, parts)))
    raise ValueError(f"{ast.unparse(node)!r} is no part of a formula")


def equal(text: str, expected: int) -> str | None:
    """ "96 * 3 = 288" where that is so, and the number alone where the text is the number; else None."""
    if value(text) != expected:
        return None
    return exact(expected) if text.lstrip("-").isdigit() else f"{text} = {exact(expected)}"


def first(expected: int, texts: Iterable[str]) -> str | None:
    """The first formula that comes to the expected number."""
    return next((shown for text in texts if (shown := equal(text, expected))), None)


def times(*dims: int) -> str:
    """55*55*96; "1" for none."""
    return "*".join(map(str, dims)) or "1"


def elements(shape: Sequence[int]) -> str:
    """How many elements, a batch of one and other leading ones left out."""
    rest = list(shape)
    while len(rest) > 1 and rest[0] == 1:
        rest.pop(0)
    return times(*rest)


def batch(lead: Sequence[int]) -> str:
    """The batch as first factor, "8 * "; nothing for a batch of one."""
    return "".join(f"{n} * " for n in lead if n != 1)


def by_axis(name: str, texts: Sequence[str]) -> list[Line]:
    """One line where all axes have the same text, else a line an axis."""
    if len(set(texts)) == 1:
        return [(name, texts[0])]
    axes = NAMES.get(len(texts), tuple(f"axis {i + 1}" for i in range(len(texts))))
    return [(f"{name}, {axis}", text) for axis, text in zip(axes, texts, strict=True)]
