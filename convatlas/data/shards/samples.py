"""Entries of a shard as labelled images, by WebDataset's layout: files with one key, told apart by their extension.

The key is the name up to the first dot after the last slash. The label is `.cls` (a number or a name), or `.json` with
one of its fields, or `.txt`. What else lies beside an image is passed over.
"""

import json
import re
import unicodedata
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from ...errors import BadData
from ..decoding import EXTENSIONS, printable
from .manifest import BLOCK
from .scanning import Entry, Tar

LABELS = ("cls", "class", "label", "json", "txt")  # extensions, the first that is there counts
FIELDS = ("class", "class_name", "label_name", "label", "cls")  # of a JSON file; a name tells more than a number
LARGEST = 2**20  # bytes of a label's file
NAME = re.compile(r"((?:.*/)?[^./]+)\.([^/]*)", re.DOTALL)  # as webdataset's base_plus_ext


@dataclass
class Found:
    """The images of some shards: block and size of each, and its label as a number of `names`."""

    names: dict[str, int] = field(default_factory=dict)
    shard: "array[int]" = field(default_factory=lambda: array("I"))
    block: "array[int]" = field(default_factory=lambda: array("I"))
    size: "array[int]" = field(default_factory=lambda: array("I"))
    label: "array[int]" = field(default_factory=lambda: array("I"))

    def add(self, path: Path, number: int) -> int:
        """Appends one shard's images and returns how many. Raises BadData that names shard and entry."""
        before = len(self.label)
        with Tar(path) as tar:
            for key, parts in _samples(tar.entries()):
                image = _image(path, key, parts)
                if image is None:
                    continue
                label = _label(tar, key, parts)
                self.shard.append(number)
                self.block.append(image.offset // BLOCK)
                self.size.append(min(image.size, 2**32 - 1))
                self.label.append(self.names.setdefault(label, len(self.names)))
        return len(self.label) - before


def _samples(entries: Iterable[Entry]) -> Iterator[tuple[str, dict[str, Entry]]]:
    """Neighbours with one key; names without an extension, and those of hidden files, belong to no sample."""
    split = ((found[1], found[2].lower(), entry) for entry in entries if (found := NAME.fullmatch(entry.name)))
    for key, group in groupby(split, key=lambda item: item[0]):
        yield key, {extension: entry for _, extension, entry in group}


def _image(path: Path, key: str, parts: dict[str, Entry]) -> Entry | None:
    images = [e for e in parts if f".{e}" in EXTENSIONS]
    images = images or [e for e in parts if f".{e.rpartition('.')[2]}" in EXTENSIONS]
    if len(images) > 1:
        listed = " and ".join(f".{e}" for e in sorted(images)[:2])
        raise BadData(
            f"{printable(str(path))}: {printable(key)} has two images, {listed}; keep one, or name the other with an "
            "extension that is no image's"
        )
    return parts[images[0]] if images else None


def _label(tar: Tar, key: str, parts: dict[str, Entry]) -> str:
    fault = "has no label"
    for extension in LABELS:
        entry = parts.get(extension)
        if entry is None:
            continue
        if entry.size > LARGEST:
            fault = f"has a .{extension} of {entry.size:,} bytes, too long for a label"
            continue
        content = tar.read(entry.offset, entry.size)
        text = _from_json(content) if extension == "json" else _plain(content)
        if text:
            return text
        fault = f"has a .{extension} without a label"
    raise BadData(
        f"{printable(str(tar.path))}: {printable(key)} {fault}; beside an image lies .cls or .txt with its class, a "
        f'name or a number on one line, or .json with "label" or "class"'
    )


def _plain(content: bytes) -> str | None:
    """The one line of a text file; None where it is no plain line."""
    try:
        text = content.decode("utf-8-sig").strip()
    except ValueError:
        return None
    # It must survive JSON and a file with a name a line.
    good = text and not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text)
    return text if good else None


def _from_json(content: bytes) -> str | None:
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, dict):
        found = next((found[name] for name in FIELDS if isinstance(found.get(name), str | int)), None)
    if isinstance(found, bool) or not isinstance(found, str | int):
        return None
    try:
        return _plain(str(found).encode())
    except ValueError:  # half of a surrogate pair; a number of more than 4,300 digits
        return None
