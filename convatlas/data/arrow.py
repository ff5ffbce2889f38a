"""Folders that Hugging Face's `datasets` saved (`save_to_disk`): a set, or one with splits."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadData, BadImage, MissingExtra
from . import classes
from .decoding import printable
from .folders import ROLES
from .sets import Source, Split

ORDER = ("train", "validation", "test")
IMAGE, LABEL = ("image", "img"), ("label", "labels", "fine_label")  # chosen first where there are several


def is_arrow(folder: Path) -> bool:
    """Whether a folder looks like one that `save_to_disk` made."""
    whole = (folder / "dataset_info.json").is_file() and (folder / "state.json").is_file()
    return whole or (folder / "dataset_dict.json").is_file()


def read(folder: Path) -> Source:
    """The splits, images undecoded; classes keep the numbers that the set gives them, those train lacks left out.

    Raises MissingExtra without `datasets`, and BadData where there is no image or class column.
    """
    said = printable(str(folder))
    loaded = _loaded(folder)
    if not hasattr(loaded, "keys"):
        return _source({"": ("", loaded)}, folder, [])
    parts: dict[str, tuple[str, Any]] = {}
    warnings = []
    for name in loaded:
        role = ROLES.get(name.lower())
        if role is None:
            warnings.append(f"split {printable(name)!r} is none of train, validation and test and is left out")
        elif role in parts:
            raise BadData(f"{said} holds both {parts[role][0]} and {name}; keep one validation split")
        else:
            parts[role] = name, loaded[name]
    ordered: dict[str, tuple[str, Any]] = {
        role: parts[role] for role in ("train", "validation", "test") if role in parts
    }
    if not ordered:
        raise BadData(f"{said} has the splits {', '.join(map(printable, loaded))}; give train, validation or test")
    return _source(ordered, folder, warnings)


@dataclass(eq=False)
class Rows:
    """Images in the rows of a saved set; each process opens the set for itself."""

    folder: Path
    split: str  # "" for a set without splits
    column: str
    rows: np.ndarray  # int64 (N,)
    _opened: Any = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_opened": None}

    def name(self, number: int) -> str:
        at = self.folder / self.split if self.split else self.folder
        return f"{printable(str(at))} row {self.rows[number]}"

    def key(self, number: int) -> bytes:
        return str(self.rows[number]).encode()

    def read(self, number: int) -> Path | bytes:
        """A file's bytes, or its path where the set holds only that."""
        if self._opened is None:
            loaded = _loaded(self.folder)
            self._opened = _undecoded(loaded[self.split] if self.split else loaded, self.column)
        try:
            cell = self._opened[int(self.rows[number])][self.column]
        except Exception as error:  # pyarrow raises many kinds of its own on damaged files
            raise BadImage(f"{self.name(number)}: cannot be read: {_reason(error)}") from error
        content, path = (cell or {}).get("bytes"), (cell or {}).get("path")
        if content is not None:
            return bytes(content)
        if not path:
            raise BadImage(f"{self.name(number)}: holds no image")
        if "://" in path:
            raise BadImage(f"{self.name(number)}: its file {printable(path)} is elsewhere and is not fetched")
        return Path(path)

    def take(self, positions: np.ndarray) -> "Rows":
        return Rows(self.folder, self.split, self.column, self.rows[positions])

    def order(self, stream: int) -> None:
        return None

    def digest(self) -> None:
        return None


def _source(parts: dict[str, tuple[str, Any]], folder: Path, warnings: list[str]) -> Source:
    said = printable(str(folder))
    splits: dict[str, Split] = {}
    known: tuple[str, ...] = ()
    first = ""
    for role, (name, table) in parts.items():
        place = f"{name} in {said}" if name else said
        image, label = _columns(table.features, place)
        labels = _labels(table, label)
        rows = np.flatnonzero(labels >= 0)
        if len(labels) and not len(rows) and role in ("validation", "test"):
            warnings.append(f"{role} has no labels and is left out")
            continue
        if len(rows) < len(labels):
            at = np.flatnonzero(labels < 0)[0]
            raise BadData(f"row {at} of {place} has no label; remove rows without one")
        if not len(rows):
            raise BadData(f"{place} holds no image")
        names = table.features[label].names
        odd = next((n for n in names if not classes.is_plain(n)), None)
        if odd is not None:
            raise BadData(f"{place} has a class named {printable(odd)!r}, which is no plain text; rename it")
        used = np.unique(labels)
        own = [names[i] for i in used]
        if not known:
            known, first = tuple(own), name
        number = np.array(classes.numbers(own, known, place, first), np.int64)
        stored = Rows(folder, name, image, rows)
        splits[role] = Split(role or "all", number[np.searchsorted(used, labels)], None, stored, known)
    if len(known) < 2:
        raise BadData(f"{said} has one class, {known[0]!r}; a classifier needs two or more")
    return Source(splits, known, None, warnings=tuple(warnings))


def _loaded(folder: Path) -> Any:
    try:
        import datasets
    except ImportError:
        raise MissingExtra("datasets", "datasets", f"reading {printable(str(folder))}") from None
    try:
        return datasets.load_from_disk(os.fspath(folder))
    except Exception as error:  # pyarrow and json raise many kinds on damaged files
        raise BadData(f"{printable(str(folder))} cannot be read by datasets: {_reason(error)}") from error


def _columns(features: Any, place: str) -> tuple[str, str]:
    """The names of the image and the class column."""
    found = []
    for kind, preferred, help_ in (
        ("Image", IMAGE, "cast it with cast_column(NAME, datasets.Image())"),
        ("ClassLabel", LABEL, "make one with class_encode_column(NAME)"),
    ):
        names = [name for name, feature in features.items() if type(feature).__name__ == kind]
        chosen = next((name for name in preferred if name in names), names[0] if len(names) == 1 else None)
        if chosen is None:
            if names:
                said = ", ".join(map(printable, names))
                raise BadData(f"{place} has several {kind} columns ({said}); call the one to use {preferred[0]!r}")
            said = ", ".join(map(printable, features))
            raise BadData(f"{place} has no {kind} column among {said}; {help_}")
        found.append(chosen)
    return found[0], found[1]


def _labels(table: Any, column: str) -> np.ndarray:
    """int64 (N,); -1 where there is none."""
    values = table.select_columns([column]).with_format("arrow")[:][column].to_pylist()
    names = len(table.features[column].names)
    return np.array([v if v is not None and 0 <= v < names else -1 for v in values], np.int64)


def _undecoded(table: Any, column: str) -> Any:
    import datasets

    return table.select_columns([column]).cast_column(column, datasets.Image(decode=False))


def _reason(error: Exception) -> str:
    return printable(" ".join(str(error).split())[:160]) or type(error).__name__
