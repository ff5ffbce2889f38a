"""A packed set: every image decoded once, its shorter side reduced, kept as bytes that need no decoding.

A split is one file of pixels, row by row, that is mapped into memory, and one of little-endian int32 (height, width,
label) an image; index.json says the rest. Reduced as `Preprocess` does with fit "crop" (bilinear, antialiased), so an
input of round(side x crop) gets the same bytes from the pack as from the files. A file that cannot be decoded keeps
its place, with no pixels, and is a bad file here too: order, epochs and counts stay those of the files.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .. import files
from ..errors import BadData, BadImage, UsageError
from . import classes
from .decoding import PIXELS, printable
from .parallel import cores, in_order
from .preprocess import BILINEAR
from .sets import Data, Source, Split

INDEX = "index.json"
WHAT = "convatlas packed images"
FORMAT = 1
ROLES = ("train", "validation", "test")
REDUCED = "Pillow, bilinear, antialiased, shorter side to `side`, never enlarged; upright; first frame"

Progress = Callable[[int, int], None]


def is_packed(folder: Path) -> bool:
    """Whether a folder is, or was before it was damaged, one that `pack` made."""
    if any((folder / f"{role}.pixels").is_file() for role in ROLES):
        return True
    try:
        with (folder / INDEX).open("rb") as file:
            return WHAT.encode() in file.read(100)
    except OSError:
        return False


def pack(data: Data, out: Path, side: int, progress: Progress | None = None) -> None:
    """Writes the splits of a set as a packed one, whole or not at all; an older pack of that name is replaced.

    side: pixels of the shorter side; smaller images are kept as they are. `progress(done, total)` is called after each
    image; cores share the decoding. Raises UsageError for a side or folder that cannot be, SaveFailed for a full disk.
    """
    if side < 1:
        raise UsageError(f"side is {side}; give the shorter side of the packed images in pixels, 1 or more")
    if out.exists() and not (out.is_dir() and (is_packed(out) or not any(out.iterdir()))):
        raise UsageError(f"{out} exists and is no packed set; choose another folder")
    source = Path(data.source)
    if source.is_dir() and out.resolve().is_relative_to(source.resolve()):
        raise UsageError(f"{out} lies in the set itself, {data.source}; choose a folder outside")
    files.write_folder(out, partial(_fill, data, side, progress))


def read(folder: Path) -> Source:
    """The splits of a packed set as they were when it was made. Raises BadData, one line, for one that is damaged.

    Sums of the small files and sizes of the large ones are checked, not every pixel.
    """
    said = printable(str(folder))
    try:
        index = _checked(folder)
        names = _strings(index["classes"])
        if len(names) < 2 or len(set(names)) < len(names) or not all(map(classes.is_plain, names)):
            raise ValueError("index.json gives no two different class names")
        channels = index["channels"]
        if type(channels) is not int or channels not in (1, 3):
            raise ValueError(f"index.json says {printable(str(channels)[:20])} channels")
        side = _whole(index["side"])
        splits = {role: _split(folder, role, index, names) for role in ROLES if role in index["splits"]}
        rule = printable(str(index["rule"]))
        if not splits:
            raise ValueError("index.json names no split")
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        raise BadData(f"{said} is a damaged packed set: index.json is not as it was written; pack it again") from None
    except ValueError as error:
        raise BadData(f"{said} is a damaged packed set: {error}; pack it again") from None
    bad = sum(
        int((split.stored.sizes[:, 0] == 0).sum()) for split in splits.values() if isinstance(split.stored, Packed)
    )
    warnings = (f"{bad:,} images could not be decoded when it was packed and count as bad files",) if bad else ()
    note = f"{rule}; packed with the shorter side at most {side}"
    return Source(splits, names, channels, warnings=warnings, rule=note)


@dataclass(eq=False)
class Packed:
    """Images in one file of pixels, which each process maps for itself; an image with no pixels was bad."""

    folder: Path
    role: str
    channels: int
    sizes: np.ndarray  # int64 (N,2) height, width
    starts: np.ndarray  # int64 (N,) bytes
    rows: np.ndarray  # int64 (N,) numbers in the file
    reasons: dict[int, str]  # why an image is bad, by its number in the file
    _pixels: np.ndarray | None = field(default=None, repr=False)
    _names: tuple[str, ...] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.rows)

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pixels": None, "_names": None}

    def name(self, number: int) -> str:
        return f"{printable(str(self.folder / self.role))}/{printable(self._key(number))}"

    def key(self, number: int) -> bytes:
        return os.fsencode(self._key(number))

    def read(self, number: int) -> np.ndarray:
        """Pixels that lie in the mapped file: read-only."""
        height, width = self.sizes[number].tolist()
        if not height:
            reason = self.reasons.get(int(self.rows[number]), "could not be decoded when it was packed")
            raise BadImage(f"{self.name(number)}: {reason}")
        if self._pixels is None:
            self._pixels = np.memmap(self.folder / f"{self.role}.pixels", np.uint8, "r").view(np.ndarray)
        start = int(self.starts[number])
        flat = self._pixels[start : start + height * width * self.channels]
        return flat.reshape((height, width, 3) if self.channels == 3 else (height, width))

    def take(self, positions: np.ndarray) -> "Packed":
        return Packed(
            self.folder, self.role, self.channels, self.sizes[positions], self.starts[positions], self.rows[positions],
            self.reasons,
        )  # fmt: skip

    def order(self, stream: int) -> None:
        return None

    def digest(self) -> None:
        return None

    def _key(self, number: int) -> str:
        if self._names is None:
            self._names = _strings(json.loads((self.folder / f"{self.role}.names.json").read_bytes()))
        return self._names[int(self.rows[number])]


def reduced(picture: Image.Image, side: int) -> Image.Image:
    """The picture with its shorter side at most `side`, in the size that torchvision's Resize gives."""
    width, height = picture.size
    if min(width, height) <= side:
        return picture
    size = (side, int(side * height / width)) if width <= height else (int(side * width / height), side)
    return picture.resize(size, BILINEAR)


def _fill(data: Data, side: int, progress: Progress | None, folder: Path) -> None:
    total, done = sum(len(split) for split in data.splits.values()), 0
    bad: list[dict[str, Any]] = []
    splits = {}
    for role, split in data.splits.items():
        sizes = np.zeros((len(split), 3), "<i4")
        sizes[:, 2] = split.labels
        with (folder / f"{role}.pixels").open("wb") as file:
            work = partial(_pixels, split, data.channels, side)
            for number, answer in enumerate(in_order(work, range(len(split)), cores())):
                if isinstance(answer, str):
                    bad.append({"split": role, "number": number, "name": split.named(number), "reason": answer})
                else:
                    sizes[number, :2] = answer.shape[:2]
                    file.write(answer.tobytes())
                done += 1
                if progress is not None:
                    progress(done, total)
        (folder / f"{role}.sizes").write_bytes(sizes.tobytes())
        (folder / f"{role}.names.json").write_text(json.dumps([_text(split, i) for i in range(len(split))]))
        splits[role] = {"images": len(split), "source_digest": split.digest()}
    index = {
        "what": WHAT,
        "format": FORMAT,
        "name": data.name,
        "source": data.source,
        "rule": data.rule,
        "classes": list(data.classes),
        "channels": data.channels,
        "side": side,
        "reduced": REDUCED,
        "splits": splits,
        "bad": bad,
    }
    (folder / INDEX).write_text(json.dumps(index, indent=1))


def _pixels(split: Split, channels: int, side: int, number: int) -> np.ndarray | str:
    """An image's pixels uint8 (H,W) or (H,W,3), or why it has none."""
    try:
        return np.asarray(reduced(split.picture(number, channels), side))
    except (BadImage, OSError) as error:
        return str(error).removeprefix(f"{split.named(number)}: ")


def _text(split: Split, number: int) -> str:
    return os.fsdecode(split.stored.key(number)) if split.stored is not None else str(number)


def _checked(folder: Path) -> dict[str, Any]:
    """index.json, after the sums of the small files and the sizes of all. Raises ValueError in a few words."""
    try:
        listed = json.loads((folder / files.MANIFEST).read_bytes())["files"]
        expected = [(str(name), _whole(want["bytes"]), str(want["sha256"])) for name, want in listed.items()]
    except FileNotFoundError:
        raise ValueError(f"{files.MANIFEST} is missing") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{files.MANIFEST} cannot be read") from None
    if INDEX not in {name for name, *_ in expected}:
        raise ValueError(f"{files.MANIFEST} does not list {INDEX}")
    large = [entry for entry in expected if entry[0].endswith(".pixels")]
    fault = files.first_fault(folder, [entry for entry in expected if entry not in large])
    for name, size, _ in large:
        path = folder / name
        if not fault and (path.resolve().parent != folder.resolve() or not path.is_file()):
            fault = f"{name} is missing"
        elif not fault and path.stat().st_size != size:
            fault = f"{name} has {path.stat().st_size} bytes, expected {size}"
    if fault:
        raise ValueError(fault)
    index = json.loads((folder / INDEX).read_bytes())
    for role in ROLES:
        for name in (f"{role}.sizes", f"{role}.names.json", f"{role}.pixels"):
            if role in index["splits"] and name not in listed:
                raise ValueError(f"{files.MANIFEST} does not list {name}")
    if index["what"] != WHAT or index["format"] != FORMAT:
        said = printable(str(index["format"])[:20])
        raise ValueError(f"{INDEX} has format {said}, this version reads {FORMAT}")
    return dict(index)


def _split(folder: Path, role: str, index: dict[str, Any], names: tuple[str, ...]) -> Split:
    images = _whole(index["splits"][role]["images"])
    path = folder / f"{role}.sizes"
    if path.resolve().parent != folder.resolve() or not path.is_file() or path.stat().st_size != images * 12:
        raise ValueError(f"{path.name} does not hold {images:,} images")
    table = np.fromfile(path, "<i4").reshape(-1, 3).astype(np.int64)
    sizes, labels = table[:, :2], table[:, 2]
    if not images or table.min() < 0 or labels.max() >= len(names):
        raise ValueError(f"{path.name} has labels or sizes that cannot be")
    area = sizes[:, 0] * sizes[:, 1]
    if area.max() > PIXELS or ((area == 0) & (sizes.sum(1) > 0)).any():
        raise ValueError(f"{path.name} has labels or sizes that cannot be")
    ends = np.cumsum(area * index["channels"])
    pixels = folder / f"{role}.pixels"
    if pixels.resolve().parent != folder.resolve() or not pixels.is_file() or pixels.stat().st_size != ends[-1]:
        raise ValueError(f"{pixels.name} does not hold the {int(ends[-1]):,} bytes of its images")
    reasons = {
        _whole(entry["number"]): printable(str(entry["reason"])) for entry in index["bad"] if entry["split"] == role
    }
    starts = ends - area * index["channels"]
    stored = Packed(folder, role, index["channels"], sizes, starts, np.arange(images), reasons)
    if len(_strings(json.loads((folder / f"{role}.names.json").read_bytes()))) != images:
        raise ValueError(f"{role}.names.json does not name {images:,} images")
    return Split(role, labels, None, stored, names)


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError
    return value


def _strings(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise TypeError
    return tuple(value)
