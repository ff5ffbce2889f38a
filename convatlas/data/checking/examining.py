"""One pass over the images of a set: each is read and decoded once, in threads, and little of it is kept."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from ...errors import BadImage
from ..decoding import BadFile, Look, look, to_channels
from ..parallel import cores, in_order
from ..sets import Data, Split
from . import alike

Progress = Callable[[int, int], None]
TOGETHER = 512  # images in memory between two reports of progress
SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif",),
}
FORMAT_OF = {suffix: format for format, suffixes in SUFFIXES.items() for suffix in suffixes}


@dataclass(frozen=True)
class Seen:
    """What is kept of one image."""

    width: int
    height: int
    mode: str
    format: str  # "" for pixels that are in no file
    file: bytes  # digest of the file; b"" where there is none
    pixels: bytes  # digest of the upright pixels and their size
    thumbnail: bytes
    colours: bytes
    turned: bool = False
    position: bool = False
    camera: bool = False


@dataclass
class Sights:
    """What is kept of all images of a set, about 1.2 kB each; rows in the order of the splits."""

    split: np.ndarray  # int64 (N,), numbers of the splits
    number: np.ndarray  # int64 (N,), within the split
    good: np.ndarray  # bool (N,); the rest below means nothing where it is False
    size: np.ndarray  # int64 (N,2), width and height, upright
    kind: np.ndarray  # int64 (N,), numbers of `kinds`
    kinds: list[tuple[str, str]]  # colour mode and format
    file: np.ndarray  # S16 (N,)
    pixels: np.ndarray  # S16 (N,)
    told: np.ndarray  # bool (N,3): stored turned, EXIF holds a position, EXIF names the camera
    thumbnails: np.ndarray  # uint8 (N,32,32)
    colours: np.ndarray  # uint8 (N,2,4,4)

    def put(self, row: int, seen: Seen) -> None:
        kind = (seen.mode, seen.format)
        if kind not in self.kinds:
            self.kinds.append(kind)
        self.good[row] = True
        self.size[row] = seen.width, seen.height
        self.kind[row] = self.kinds.index(kind)
        self.file[row], self.pixels[row] = seen.file, seen.pixels
        self.told[row] = seen.turned, seen.position, seen.camera
        self.thumbnails[row].reshape(-1)[:] = np.frombuffer(seen.thumbnail, np.uint8)
        self.colours[row].reshape(-1)[:] = np.frombuffer(seen.colours, np.uint8)


def sights(data: Data, progress: Progress | None = None) -> tuple[Sights, list[tuple[int, BadFile]]]:
    """Everything about every image, and the rows of those that cannot be read, with their reasons."""
    splits = list(data.splits.values())
    kept = _empty([len(s) for s in splits])
    bad = []
    row = 0
    for split in splits:
        for part in _parts(split):
            for seen in part:
                if isinstance(seen, Seen):
                    kept.put(row, seen)
                else:
                    bad.append((row, seen))
                row += 1
            if progress is not None:
                progress(row, len(kept.split))
    return kept, bad


def examine(split: Split, number: int) -> Seen | BadFile:
    """What an image holds, or why it cannot be read."""
    try:
        given = split.given(number)
        if isinstance(given, np.ndarray):
            return _pixels(given)
        return _file(look(given))
    except BadImage as error:
        return bad_file(split.named(number), error)
    except OSError as error:
        return BadFile(split.named(number), (error.strerror or str(error)).lower())


def bad_file(name: str, error: BadImage) -> BadFile:
    return BadFile(name, str(error).removeprefix(f"{name}: "))


def misnamed(name: str, format: str) -> bool:
    """Whether a file's extension is that of another image format."""
    return FORMAT_OF.get(Path(name).suffix.lower(), format) != format


def _file(seen: Look) -> Seen:
    return Seen(
        seen.width,
        seen.height,
        seen.mode,
        seen.format,
        _digest(seen.content),
        _digest(f"{seen.width}x{seen.height}:".encode(), seen.picture.tobytes()),
        *alike.thumbnail(seen.picture),
        turned=seen.turned,
        position=seen.position,
        camera=seen.camera,
    )


def _pixels(given: np.ndarray) -> Seen:
    height, width = given.shape[:2]
    content = np.ascontiguousarray(given)
    digest = _digest(f"{given.shape}:".encode(), content.tobytes())
    picture = Image.fromarray(content)
    channels = 1 if picture.mode == "L" else 3
    return Seen(width, height, picture.mode, "", b"", digest, *alike.thumbnail(to_channels(picture, channels)))


def _digest(*parts: bytes) -> bytes:
    total = hashlib.blake2b(digest_size=16)
    for part in parts:
        total.update(part)
    return total.digest()


def _parts(split: Split) -> Iterator[list[Seen | BadFile]]:
    """The images in order; threads help with files, but would only wait for one another over pixels in memory."""
    together, workers = (TOGETHER, 1) if split.images is not None else (1, cores())
    work = partial(_several, split, together)
    yield from in_order(work, range(0, len(split), together), workers)


def _several(split: Split, together: int, start: int) -> list[Seen | BadFile]:
    return [examine(split, i) for i in range(start, min(start + together, len(split)))]


def _empty(lengths: list[int]) -> Sights:
    n = sum(lengths)
    return Sights(
        np.repeat(np.arange(len(lengths)), lengths),
        np.concatenate([np.zeros(0, np.int64), *(np.arange(k) for k in lengths)]),
        np.zeros(n, bool),
        np.zeros((n, 2), np.int64),
        np.zeros(n, np.int64),
        [],
        np.zeros(n, "S16"),
        np.zeros(n, "S16"),
        np.zeros((n, 3), bool),
        np.zeros((n, alike.SIDE, alike.SIDE), np.uint8),
        np.zeros((n, 2, alike.COLOURS, alike.COLOURS), np.uint8),
    )
