"""Plain values and arrays of bytes from a pickle, without ever running one.

A pickle is a program: `pickle.load` may call anything. Here `pickletools` only lists the instructions, and those that
build dicts, lists, tuples, text, bytes and numbers are followed; of calls, numpy's way to make an array is recognised
by name and taken as data. Nothing is imported and nothing is called.
"""

import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

ARRAY = ("numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct")
CLASS, KIND = "numpy ndarray", "numpy dtype"
ENCODE = "_codecs encode"  # how bytes are written in protocols 0 to 2


class Refused(ValueError):
    """A pickle that is damaged, or that asks for more than plain values; the message says what, in a few words."""


@dataclass(frozen=True)
class _Name:
    """Something that the pickle wants to have imported."""

    name: str


@dataclass
class _Kind:
    code: str  # "u1": unsigned bytes


@dataclass
class _Array:
    state: list[Any] = field(default_factory=list)


MARK = object()
PUSH = {
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT", "STRING", "BINSTRING"),
    *("SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES"),
    "BINBYTES8",
}
MAKE: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": lambda: MARK,
}
GATHER: dict[str, Callable[[list[Any]], Any]] = {"TUPLE": tuple, "LIST": list, "DICT": lambda items: _pairs(items)}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


def load(content: bytes) -> Any:
    """The value in a pickle of any protocol; an array of bytes becomes uint8, text of Python 2 is read as latin-1.

    Raises Refused.
    """
    stack: list[Any] = []
    memo: dict[int, Any] = {}
    try:
        for code, argument, _ in pickletools.genops(content):
            if code.name == "STOP":
                return _finished(stack.pop())
            _follow(code.name, argument, stack, memo)
    except Refused:
        raise
    except (ValueError, IndexError, KeyError, TypeError, OverflowError, MemoryError, RecursionError, AttributeError):
        pass
    raise Refused("its pickle is damaged")


def _follow(name: str, argument: Any, stack: list[Any], memo: dict[int, Any]) -> None:
    """One instruction (of pickletools' list) on the stack."""
    if name in PUSH:
        stack.append(argument)
    elif name in MAKE:
        stack.append(MAKE[name]())
    elif name in TUPLES:
        n = TUPLES[name]
        if len(stack) < n:
            raise IndexError
        stack[-n:] = [tuple(stack[-n:])]
    elif name in ("TUPLE", "LIST", "DICT"):
        items = _marked(stack)
        stack.append(GATHER[name](items))
    elif name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
        memo[len(memo) if argument is None else argument] = stack[-1]
    elif name in ("BINGET", "LONG_BINGET", "GET"):
        stack.append(memo[argument])
    elif name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS"):
        _fill(name, stack)
    elif name in ("GLOBAL", "STACK_GLOBAL"):
        if name == "STACK_GLOBAL":
            function, module = stack.pop(), stack.pop()
            argument = f"{module} {function}"
        if argument not in (*ARRAY, CLASS, KIND, ENCODE):
            raise Refused(f"it would run {_short(argument)}, which no data need")
        stack.append(_Name(argument))
    elif name == "REDUCE":
        arguments, function = stack.pop(), stack.pop()
        stack.append(_called(function, arguments))
    elif name == "BUILD":
        state, made = stack.pop(), stack[-1]
        if isinstance(made, _Array):
            made.state = list(state)
        elif not isinstance(made, _Kind):
            raise Refused("it would set up an object, which no data need")
    elif name not in ("PROTO", "FRAME"):
        raise Refused(f"it has the instruction {name}, which no data need")


def _fill(name: str, stack: list[Any]) -> None:
    n = {"APPEND": 1, "SETITEM": 2}.get(name)
    items = _marked(stack) if n is None else [stack.pop() for _ in range(n)][::-1]
    into = stack[-1]
    if name.startswith("APPEND") and isinstance(into, list):
        into.extend(items)
    elif name.startswith("SETITEM") and isinstance(into, dict):
        into.update(_pairs(items))
    else:
        raise TypeError


def _called(function: Any, arguments: Any) -> Any:
    what = function.name if isinstance(function, _Name) else ""
    if what == ENCODE:
        text, encoding = arguments
        if encoding != "latin1":
            raise ValueError
        return text.encode("latin1")
    if what in ARRAY:
        return _Array()
    if what == KIND:
        code = arguments[0]
        return _Kind(code.decode("latin1") if isinstance(code, bytes) else str(code))
    raise Refused("it would call an object, which no data need")


def _marked(stack: list[Any]) -> list[Any]:
    at = len(stack) - 1
    while stack[at] is not MARK:
        at -= 1
        if at < 0:
            raise IndexError
    items = stack[at + 1 :]
    del stack[at:]
    return items


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


def _finished(value: Any) -> Any:
    """Arrays made of what the pickle said of them: the value itself, and those directly in a dict."""
    if isinstance(value, dict):
        return {key: _array(inner) if isinstance(inner, _Array) else inner for key, inner in value.items()}
    return _array(value) if isinstance(value, _Array) else value


def _array(made: _Array) -> np.ndarray:
    """From the state (version, shape, dtype, Fortran order, bytes) that numpy pickles."""
    _, shape, kind, fortran, content = made.state
    if not isinstance(kind, _Kind) or kind.code.lstrip("|") != "u1":
        raise Refused("an array in it does not hold unsigned bytes")
    flat = np.frombuffer(content.encode("latin1") if isinstance(content, str) else content, np.uint8)
    return flat.reshape(shape, order="F" if fortran else "C")


def _short(name: Any) -> str:
    text = ".".join(str(name)[:80].split())
    return text if text.isprintable() else ascii(text)
