"""CIFAR-10 and CIFAR-100 as published (https://www.cs.toronto.edu/~kriz/cifar.html), Python pickles and binary files.

The classes of CIFAR-100 are its hundred fine ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import BadData
from . import pickles
from .decoding import printable
from .sets import Source, Split

SHAPE = (3, 32, 32)
PIXELS = 3 * 32 * 32
BYTES = 1_000_000_000  # of one file; the largest published one has 155 MB
BATCHES = 5  # training batches of CIFAR-10


@dataclass(frozen=True)
class Layout:
    """How one of the four published archives lies in its folder."""

    folder: str  # the archive's own folder
    train: str  # a file; with {} one of several batches, from 1 on
    test: str
    names: str  # of the classes
    entry: str  # in the pickle of names; "" for a text file
    labels: str  # in the pickle of a batch; "" for a binary file
    label: int = 0  # in a binary file, the byte of a record that is the label
    label_bytes: int = 1


LAYOUTS = (
    Layout("cifar-10-batches-py", "data_batch_{}", "test_batch", "batches.meta", "label_names", "labels"),
    Layout("cifar-10-batches-bin", "data_batch_{}.bin", "test_batch.bin", "batches.meta.txt", "", ""),
    Layout("cifar-100-python", "train", "test", "meta", "fine_label_names", "fine_labels"),
    Layout("cifar-100-binary", "train.bin", "test.bin", "fine_label_names.txt", "", "", label=1, label_bytes=2),
)


def find(folder: Path) -> tuple[Path, Layout] | None:
    """Where the batches lie, the given folder or an archive's one below it, and how. Raises BadData for several."""
    found = [(folder, layout) for layout in LAYOUTS if _holds(folder, layout)]
    found = found or [(folder / one.folder, one) for one in LAYOUTS if _holds(folder / one.folder, one)]
    if len(found) > 1:
        names = ", ".join(printable(str(place / (one.train if place == folder else ""))) for place, one in found)
        raise BadData(f"{printable(str(folder))} holds several CIFAR sets: {names}; keep or give one")
    return found[0] if found else None


def read(place: Path, layout: Layout) -> Source:
    """Both splits in memory, images uint8 (N,32,32,3); classes that train has no image of are left out.

    Raises BadData, one line, for files that are damaged or not of this format; no pickle is ever run.
    """
    batches = _batches(place, layout)
    parts = {"train": [_batch(file, layout) for file in batches]}
    if (place / layout.test).is_file():
        parts["test"] = [_batch(place / layout.test, layout)]
    labels = {role: np.concatenate([part[1] for part in read]) for role, read in parts.items()}
    values = np.unique(labels["train"])
    names, warnings = _names(place, layout, int(values[-1]))
    if len(values) < 2:
        raise BadData(f"{printable(str(place))} has one class, {names[values[0]]!r}; a classifier needs two or more")
    splits = {}
    classes = tuple(names[v] for v in values)
    for role, read in parts.items():
        extra = np.setdiff1d(labels[role], values)
        if len(extra):
            raise BadData(f"label {extra[0]} of {role} in {printable(str(place))} is missing in train")
        images = read[0][0] if len(read) == 1 else np.concatenate([part[0] for part in read])
        splits[role] = Split(role, np.searchsorted(values, labels[role]), images, classes=classes)
    if "{}" in layout.train and len(batches) < BATCHES:
        warnings.append(f"{printable(str(place))} holds {len(batches)} of CIFAR-10's {BATCHES} training batches")
    return Source(splits, classes, 3, warnings=tuple(warnings))


def _holds(folder: Path, layout: Layout) -> bool:
    """Whether a folder is an archive's: training files, and for names as common as `train` those of the classes too."""
    if "{}" in layout.train:
        return bool(_numbered(folder, layout))
    return (folder / layout.train).is_file() and (folder / layout.names).is_file()


def _numbered(folder: Path, layout: Layout) -> dict[int, Path]:
    before, after = layout.train.split("{}")
    middles = {p.name.removeprefix(before).removesuffix(after): p for p in folder.glob(f"{before}*{after}")}
    return {int(m): p for m, p in sorted(middles.items()) if m.isascii() and m.isdecimal() and p.is_file()}


def _batches(place: Path, layout: Layout) -> list[Path]:
    if "{}" not in layout.train:
        return [place / layout.train]
    found = _numbered(place, layout)
    missing = sorted(set(range(1, max(found) + 1)) - found.keys())
    if missing:
        raise BadData(f"{printable(str(place))} lacks {layout.train.format(missing[0])}; fetch the set again")
    return [found[n] for n in sorted(found)]


def _batch(path: Path, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (N,32,32,3) and labels int64 (N,) of one file."""
    pixels, labels = _pickled(path, layout.labels) if layout.labels else _binary(path, layout)
    if not len(labels):
        raise BadData(f"{printable(str(path))} holds no image")
    return np.ascontiguousarray(pixels.reshape(-1, *SHAPE).transpose(0, 2, 3, 1)), labels


def _pickled(path: Path, entry: str) -> tuple[np.ndarray, np.ndarray]:
    batch = _plain(path)
    pixels, labels = _get(batch, "data"), _get(batch, entry)
    if not isinstance(pixels, np.ndarray) or pixels.ndim != 2 or pixels.shape[1] != PIXELS:
        raise BadData(f"{printable(str(path))}: 'data' is no array of {PIXELS:,} bytes an image; fetch it again")
    if not isinstance(labels, list) or not all(type(label) is int and 0 <= label < 256 for label in labels):
        raise BadData(f"{printable(str(path))}: {entry!r} is no list of class numbers; fetch it again")
    if len(labels) != len(pixels):
        raise BadData(
            f"{printable(str(path))} holds {len(pixels):,} images and {len(labels):,} labels; the numbers must be equal"
        )
    return pixels, np.array(labels, np.int64)


def _binary(path: Path, layout: Layout) -> tuple[np.ndarray, np.ndarray]:
    content = _content(path)
    record = layout.label_bytes + PIXELS
    if len(content) % record:
        raise BadData(
            f"{printable(str(path))} has {len(content):,} bytes, no multiple of the {record:,} of an image; "
            f"fetch it again"
        )
    table = np.frombuffer(content, np.uint8).reshape(-1, record)
    return table[:, layout.label_bytes :], table[:, layout.label].astype(np.int64)


def _names(place: Path, layout: Layout, highest: int) -> tuple[Sequence[str], list[str]]:
    """A name for each label up to the highest, and warnings."""
    file = place / layout.names
    if not file.is_file():
        return [str(i) for i in range(highest + 1)], [
            f"{printable(str(file))} is missing, so classes are called by their numbers"
        ]
    names: Any
    if layout.entry:
        names = _get(_plain(file), layout.entry)
    else:
        names = _content(file).decode("utf-8", "replace").splitlines()
        while names and not names[-1].strip():  # the published file ends in empty lines
            names.pop()
    good = isinstance(names, list) and all(isinstance(n, str) and n.isprintable() and n.strip() for n in names)
    if not good or len(set(names)) < len(names) or len(names) <= highest:
        raise BadData(
            f"{printable(str(file))} does not give {highest + 1} different class names, as the labels need; "
            f"fetch it again"
        )
    return [name.strip() for name in names], []


def _plain(path: Path) -> Any:
    try:
        return pickles.load(_content(path))
    except pickles.Refused as error:
        raise BadData(f"{printable(str(path))} is no CIFAR file: {error}; nothing of it was run") from None


def _get(batch: Any, entry: str) -> Any:
    """An entry by its name, which is bytes where the pickle was written so."""
    found = batch if isinstance(batch, dict) else {}
    return found.get(entry, found.get(entry.encode()))


def _content(path: Path) -> bytes:
    size = path.stat().st_size
    if size > BYTES:
        raise BadData(f"{printable(str(path))} has {size:,} bytes, more than the {BYTES:,} allowed")
    return path.read_bytes()
