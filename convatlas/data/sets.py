"""What a data set is once it is open: labelled splits, whatever their images come from."""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import BadData, BadImage, SaveFailed
from . import draws
from .decoding import Box, decode, decode_crop, is_grey, named, to_channels
from .preprocess import Preprocess
from .stored import Paths, Stored

PREPARED = 2**30  # bytes up to which a split is kept at the input's size
HEADERS = 2000  # files that are asked for their colour mode at most


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled images, either as pixels in memory or stored elsewhere.

    labels int64 (N,), numbers of `classes`; images uint8 (N,H,W) or (N,H,W,3), or None; `stored` N images, or None.
    """

    name: str
    labels: np.ndarray
    images: np.ndarray | None = None
    stored: Stored | None = None
    classes: tuple[str, ...] = ()
    _prepared: dict[Preprocess, np.ndarray] = field(default_factory=dict, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def paths(self) -> tuple[Path, ...] | None:
        """The images' files, where each is one."""
        return self.stored.paths if isinstance(self.stored, Paths) else None

    def take(self, name: str, positions: np.ndarray) -> "Split":
        """A split of the images at these positions."""
        images = None if self.images is None else self.images[positions]
        stored = None if self.stored is None else self.stored.take(positions)
        return Split(name, self.labels[positions], images, stored, self.classes)

    def named(self, number: int) -> str:
        """One printable line that tells a user which image it is."""
        return f"{self.name} image {number}" if self.stored is None else self.stored.name(number)

    def picture(self, number: int, channels: int) -> Image.Image:
        """One image whole, decoded as `decode` does. Raises BadImage."""
        given = self.given(number)
        if isinstance(given, np.ndarray):
            return to_channels(Image.fromarray(given), channels)
        with self._naming(number, given):
            return decode(given, channels)

    def cut(self, number: int, channels: int, choose: Callable[[int, int], Box], size: tuple[int, int]) -> Image.Image:
        """The part of one image that `choose(width, height)` gives, as `decode_crop` has it. Raises BadImage."""
        given = self.given(number)
        if isinstance(given, np.ndarray):
            left, top, right, bottom = choose(given.shape[1], given.shape[0])
            return to_channels(Image.fromarray(given[top:bottom, left:right]), channels)
        with self._naming(number, given):
            return decode_crop(given, channels, choose, size)

    @contextmanager
    def _naming(self, number: int, given: Path | bytes) -> Iterator[None]:
        """Bytes do not know what they are called, so a decoder's complaint about them gets the image's name here."""
        try:
            yield
        except BadImage as error:
            if isinstance(given, Path):
                raise
            raise BadImage(f"{self.named(number)}: {str(error).removeprefix(f'{named(given)}: ')}") from error

    def given(self, number: int) -> Path | bytes | np.ndarray:
        """One image as it is kept: a file, a file's bytes, or pixels. Raises BadImage."""
        if self.images is not None:
            return self.images[number]
        if self.stored is None:
            raise ValueError(f"the {self.name} split has no images")
        try:
            return self.stored.read(number)
        except SaveFailed:  # an OSError too, but the image is not to blame for a full disk
            raise
        except OSError as error:
            raise BadImage(f"{self.named(number)}: {(error.strerror or str(error)).lower()}") from error

    def order(self, stream: int) -> np.ndarray | draws.Parts:
        """A permutation of the images by a random stream: int64 (N,), or read part by part."""
        own = None if self.stored is None else self.stored.order(stream)
        return draws.Permutation(stream, len(self)) if own is None else own

    def counts(self) -> np.ndarray:
        """Images of each class, int64 (classes,)."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def digest(self) -> str:
        """sha256 over class names, labels and content, in order.

        Of stored images, what names each within the split and the sha256 of its bytes; where the split lies and dates
        do not count. Reads every file once, about a second for 1 GB, unless their sums are kept beside them (shards);
        a file that cannot be read counts as such.
        """
        total = hashlib.sha256("\0".join(self.classes).encode())
        total.update(self.labels.astype("<i8").tobytes())
        if self.images is not None:
            total.update(repr(self.images.shape).encode())
            total.update(np.ascontiguousarray(self.images).data)
        kept = None if self.stored is None else self.stored.digest()
        if kept is not None:
            total.update(kept.encode())
        elif self.stored is not None:
            for number in range(len(self)):
                total.update(self.stored.key(number) + b"\0" + _content_digest(self.stored, number))
        return total.hexdigest()

    def fits(self, preprocess: Preprocess) -> bool:
        """Whether the split is in memory and may stay there at the input's size, too."""
        size = len(self) * preprocess.height * preprocess.width * preprocess.channels
        return self.images is not None and size <= PREPARED

    def prepared(self, preprocess: Preprocess) -> np.ndarray:
        """All images of a split in memory through `preprocess.array`, uint8 (N,height,width,channels); kept."""
        if self.images is None:
            raise ValueError("only a split in memory is prepared whole")
        if preprocess not in self._prepared:
            shape = (len(self), preprocess.height, preprocess.width, preprocess.channels)
            out = np.empty(shape, np.uint8)
            for i, image in enumerate(self.images):
                out[i] = preprocess.array(Image.fromarray(image))
            self._prepared.clear()
            self._prepared[preprocess] = out
        return self._prepared[preprocess]


@dataclass(frozen=True, eq=False)
class Source:
    """What a source holds before the rule that divides it: splits by role, or the one key "" where it has none."""

    splits: dict[str, Split]
    classes: tuple[str, ...]
    channels: int | None  # None: by the headers of the images
    ignored: dict[str, int] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    rule: str = ""  # how the splits came about, where the source knows


@dataclass(frozen=True, eq=False)
class Data:
    """A data set: class names in the order of the labels, splits, and how the splits came about."""

    name: str
    source: str
    classes: tuple[str, ...]
    splits: dict[str, Split]
    channels: int  # 1 grey, 3 colour
    rule: str
    ignored: dict[str, int] = field(default_factory=dict)  # files in the folder that are no images, by kind
    warnings: tuple[str, ...] = ()  # what to say before anything is trained on it, a sentence each

    def split(self, name: str) -> Split:
        """Raises BadData that names the splits there are."""
        if name not in self.splits:
            raise BadData(f"{self.name} has no {name} split; it has {', '.join(self.splits)}")
        return self.splits[name]


def channels(split: Split) -> int:
    """1 when every header of up to 2,000 evenly spaced files announces grey, else 3; the first colour file decides."""
    stored = split.stored
    known = (_grey(stored, i) for i in spaced(len(split), HEADERS)) if stored is not None else ()
    grey = False
    for answer in known:
        if answer is False:
            return 3
        grey = grey or answer is True
    return 1 if grey else 3


def _grey(stored: Stored, number: int) -> bool | None:
    try:
        given = stored.read(number)
    except (OSError, BadImage):
        return None
    return given.ndim == 2 if isinstance(given, np.ndarray) else is_grey(given)


def spaced(n: int, most: int) -> list[int]:
    """Up to `most` evenly spaced positions of n."""
    return np.unique(np.linspace(0, n - 1, min(n, most)).round().astype(int)).tolist() if n else []


def _content_digest(stored: Stored, number: int) -> bytes:
    try:
        given = stored.read(number)
        if isinstance(given, np.ndarray):
            return hashlib.sha256(repr(given.shape).encode() + np.ascontiguousarray(given).tobytes()).digest()
        if isinstance(given, bytes):
            return hashlib.sha256(given).digest()
        if not given.is_file():
            return b"unreadable"
        with given.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except (OSError, BadImage):
        return b"unreadable"
