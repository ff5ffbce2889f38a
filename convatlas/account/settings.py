"""What a call was told besides its tensors: numbers and words by name, for formulas to be written out from a row."""

from collections.abc import Sequence
from math import isfinite
from typing import Any

import torch

from ..table import Setting

NUMBERS = (int, float, bool, str)


def setting_of(names: Sequence[str], args: Sequence[Any], kwargs: dict[str, Any]) -> Setting:
    """Numbers and words among the arguments of a call, by name; those without one are `values`."""
    out: Setting = {}
    nameless = []
    for i, value in enumerate(args):
        if i < len(names):
            _put(out, names[i], value)
        elif type(value) in NUMBERS:
            nameless.append(_plain(value))
    if nameless:
        out["values"] = tuple(nameless)
    for name, value in kwargs.items():
        _put(out, name, value)
    return out


def _put(out: Setting, name: str, value: Any) -> None:
    if name == "inplace":  # says nothing about the values
        return
    if type(value) in NUMBERS:
        out[name] = _plain(value)
    elif isinstance(value, (tuple, list)) and all(v is None or type(v) in NUMBERS for v in value):
        out[name] = tuple(_plain(v) for v in value)
    elif isinstance(value, torch.dtype):
        out[name] = str(value).removeprefix("torch.")


def _plain(value: Any) -> Any:
    """JSON knows no infinity."""
    return str(value) if type(value) is float and not isfinite(value) else value
