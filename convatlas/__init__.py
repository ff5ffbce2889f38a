"""ConvAtlas: from a folder of labelled photos to a chosen, trained, verified, exportable classifier.

The public names are fetched on first use, so that `import convatlas` does not import torch.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from .version import __version__ as __version__

if TYPE_CHECKING:
    from .account import account
    from .classifier import load
    from .compare import choose, compare
    from .data import open_data
    from .features import features
    from .measure import measure
    from .networks import build
    from .report import report
    from .ship import export, predict
    from .split import split
    from .train import evaluate, train

_ROOMS = {
    "account": "account",
    "build": "networks",
    "choose": "compare",
    "compare": "compare",
    "evaluate": "train",
    "export": "ship",
    "features": "features",
    "load": "classifier",
    "measure": "measure",
    "open_data": "data",
    "predict": "ship",
    "report": "report",
    "split": "split",
    "train": "train",
}
__all__ = [
    "account",
    "build",
    "choose",
    "compare",
    "evaluate",
    "export",
    "features",
    "load",
    "measure",
    "open_data",
    "predict",
    "report",
    "split",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _ROOMS:
        raise AttributeError(f"module 'convatlas' has no attribute {name!r}")
    return getattr(import_module(f".{_ROOMS[name]}", __name__), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


class _Package(ModuleType):
    """Keeps `convatlas.account` the function: the import system would bind the room of the same name there."""

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name in _ROOMS and isinstance(value, ModuleType)):
            super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
