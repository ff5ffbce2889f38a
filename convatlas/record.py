"""Dataclasses as JSON and back, and a field changed by its text; msgspec does the reading and checks every type."""

import dataclasses
import types
import typing
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

from .errors import BadRecipe, UnknownName

T = TypeVar("T")


def to_json(thing: object, indent: int = 0) -> str:
    """Any of our dataclasses, or lists and dicts of them, as JSON text; tuples become lists."""
    encoded = msgspec.json.encode(thing)
    return (msgspec.json.format(encoded, indent=indent) if indent else encoded).decode()


def from_json(kind: type[T], text: str | bytes) -> T:
    """The dataclass (or list[...] of it) that `to_json` wrote. Raises ValueError that names the field at fault."""
    return msgspec.json.decode(text, type=kind)


def changed(record: T, settings: Iterable[str], kind: str) -> T:
    """A copy of a dataclass with fields replaced from "field=value" texts, each read by its field's type.

    Values of tuple fields are separated by commas. Raises UnknownName for a field (near names suggested) and BadRecipe
    for a value that its type cannot have.
    """
    hints = typing.get_type_hints(type(record))
    new: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        name = name.strip().replace("-", "_")
        if not equals:
            raise BadRecipe(f"--set {setting!r} has no value; write field=value, for example --set lr=0.05")
        if name not in hints:
            raise UnknownName(f"{kind} field", name, hints)
        try:
            new[name] = msgspec.convert(_value(text.strip(), hints[name]), hints[name], strict=False)
        except msgspec.ValidationError:
            raise BadRecipe(f"{kind} field {name} cannot be {text!r}; give {_expected(hints[name])}") from None
    return dataclasses.replace(record, **new)  # type: ignore[type-var]


def _value(text: str, hint: Any) -> Any:
    options = typing.get_args(hint) if typing.get_origin(hint) in (typing.Union, types.UnionType) else (hint,)
    if text.lower() in ("none", "") and type(None) in options:
        return None
    if any(typing.get_origin(option) is tuple for option in options):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _expected(hint: Any) -> str:
    """A field's type in a user's words."""
    if typing.get_origin(hint) is typing.Literal:
        return f"one of {', '.join(typing.get_args(hint))}"
    if typing.get_origin(hint) is tuple:
        return f"{_expected(typing.get_args(hint)[0])}, or several separated by commas"
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " or ".join(_expected(option) for option in typing.get_args(hint))
    return {int: "a whole number", float: "a number", type(None): "none"}.get(hint, "text")
