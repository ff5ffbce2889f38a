"""What lies beside shards that ConvAtlas wrote: names, counts and sums, and where each image starts.

manifest.json holds classes, splits, shards and their sha256. SPLIT.index.safetensors holds, image by image: `block`,
where its bytes start in units of 512; `size` in bytes; `crc`, the CRC-32 of the bytes; `label`. Sixteen bytes an image
instead of a reading of every tar header.
"""

import hashlib
import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
import safetensors.numpy

from ... import record
from ...errors import BadData
from ..decoding import BadFile

NAME = "manifest.json"
WRITING = ".writing.json"  # beside it as long as shards are being written
FORMAT = 1
KIND: Literal["convatlas shards"] = "convatlas shards"
BLOCK = 512  # bytes; every entry of a tar starts at a multiple
COLUMNS = ("block", "size", "crc", "label")


@dataclass(frozen=True)
class Sum:
    """A file beside the manifest, proven by its size and sha256."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Shard:
    """One tar file and the number of images in it; `sha256` is empty where no manifest gives it."""

    name: str
    images: int
    bytes: int
    sha256: str = ""


@dataclass(frozen=True)
class Part:
    """One split: its shards in order, and the index over all of them."""

    index: Sum
    shards: tuple[Shard, ...]

    @property
    def files(self) -> tuple[Sum, ...]:
        """Shards and index, each with its sum."""
        return (*(Sum(s.name, s.bytes, s.sha256) for s in self.shards), self.index)


@dataclass(frozen=True)
class Manifest:
    kind: Literal["convatlas shards"]
    format: int
    name: str
    classes: tuple[str, ...]
    channels: int  # 1 grey, 3 colour
    rule: str  # how the splits came about
    source: str  # sha256 of what was written from: names, labels, order and size
    splits: dict[str, Part]
    left_out: tuple[BadFile, ...] = ()  # images that could not be read when the shards were written


def parse(text: bytes, where: str) -> Manifest:
    """Raises BadData for what is no manifest of ours, and for a name that leads out of its folder."""
    try:
        found = record.from_json(Manifest, text)
    except ValueError as error:
        raise BadData(f"{where} is no manifest of shards: {' '.join(str(error).split())[:120]}") from None
    if found.format != FORMAT:
        raise BadData(f"{where} has format {found.format}, this version reads {FORMAT}; update convatlas")
    names = [file.name for part in found.splits.values() for file in part.files]
    for name in names:
        if not safe(name):
            raise BadData(f"{where} names {name!r}, which lies outside its folder; write the shards again")
    if len(found.classes) < 2 or not found.splits or found.channels not in (1, 3):
        raise BadData(
            f"{where} has {len(found.classes)} classes and {len(found.splits)} splits; write the shards again"
        )
    return found


def safe(name: str) -> bool:
    """Whether a name stays below its folder, on any system."""
    parts = name.split("/")
    return bool(re.fullmatch(r"[\w.\-/]+", name)) and not any(part in ("", ".", "..") for part in parts)


def packed(columns: dict[str, np.ndarray]) -> bytes:
    """The index file's bytes. Arrays uint32 (N,) by the names in COLUMNS."""
    return safetensors.numpy.save({name: np.ascontiguousarray(columns[name], np.uint32) for name in COLUMNS})


def unpacked(content: bytes, part: Part, classes: int, where: str) -> dict[str, np.ndarray]:
    """The index's arrays, uint32 (N,). Raises BadData where they do not fit the manifest."""
    if len(content) != part.index.bytes or hashlib.sha256(content).hexdigest() != part.index.sha256:
        raise BadData(f"{where} was changed: its sha256 differs from the manifest's; write the shards again")
    images = sum(shard.images for shard in part.shards)
    try:
        columns = safetensors.numpy.load(content)
        good = all(columns[name].dtype == np.uint32 and columns[name].shape == (images,) for name in COLUMNS)
    except (safetensors.SafetensorError, KeyError, ValueError):
        good = False
    if not good or (images and int(columns["label"].max()) >= classes):
        raise BadData(f"{where} does not fit its manifest; write the shards again")
    return {name: columns[name] for name in COLUMNS}
