"""Data sets: the embedded digits, IDX files and image folders, all as labelled splits."""

import csv
import gzip
import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import BadData, BadImage
from . import draws, folders, idx
from .decoding import Box, decode, decode_crop, is_grey, printable, to_channels
from .preprocess import Preprocess
from .stored import Paths, Stored
from .stratify import TEST, divide

DIGITS = Path(__file__).parent / "digits" / "digits.csv.gz"
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
        return decode(given, channels)

    def cut(self, number: int, channels: int, choose: Callable[[int, int], Box], size: tuple[int, int]) -> Image.Image:
        """The part of one image that `choose(width, height)` gives, as `decode_crop` has it. Raises BadImage."""
        given = self.given(number)
        if isinstance(given, np.ndarray):
            left, top, right, bottom = choose(given.shape[1], given.shape[0])
            return to_channels(Image.fromarray(given[top:bottom, left:right]), channels)
        return decode_crop(given, channels, choose, size)

    def given(self, number: int) -> Path | bytes | np.ndarray:
        """One image as it is kept: a file, a file's bytes, or pixels. Raises BadImage."""
        if self.images is not None:
            return self.images[number]
        if self.stored is None:
            raise ValueError(f"the {self.name} split has no images")
        return self.stored.read(number)

    def order(self, stream: int) -> np.ndarray:
        """A permutation of the images by a random stream, int64 (N,)."""
        own = None if self.stored is None else self.stored.order(stream)
        return draws.order(stream, len(self)) if own is None else own

    def counts(self) -> np.ndarray:
        """Images of each class, int64 (classes,)."""
        return np.bincount(self.labels, minlength=len(self.classes))

    def digest(self) -> str:
        """sha256 over class names, labels and content, in order.

        Of stored images, what names each within the split and the sha256 of its bytes; where the split lies and dates
        do not count. Reads every file once, about a second for 1 GB; a file that cannot be read counts as such.
        """
        total = hashlib.sha256("\0".join(self.classes).encode())
        total.update(self.labels.astype("<i8").tobytes())
        if self.images is not None:
            total.update(repr(self.images.shape).encode())
            total.update(np.ascontiguousarray(self.images).data)
        if self.stored is not None:
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
class Data:
    """A data set: class names in the order of the labels, splits, and how the splits came about."""

    name: str
    source: str
    classes: tuple[str, ...]
    splits: dict[str, Split]
    channels: int  # 1 grey, 3 colour
    rule: str
    ignored: dict[str, int] = field(default_factory=dict)  # files in the folder that are no images, by kind

    def split(self, name: str) -> Split:
        """Raises BadData that names the splits there are."""
        if name not in self.splits:
            raise BadData(f"{self.name} has no {name} split; it has {', '.join(self.splits)}")
        return self.splits[name]


def open_data(source: str | Path, *, seed: int = 0, validation: float = 0.1) -> Data:
    """The set "digits", a folder of IDX files (MNIST), or a folder of images with a folder a class.

    Splits that exist are kept. Where there is no validation split, `validation` of each class's training images is held
    out; a folder that is not divided gives a fifth of each class to test first. `seed` decides which images, so keep it
    equal between runs that are compared. Raises BadData, one line.
    """
    if source == "digits":
        return _digits(seed, validation)
    folder = Path(source)
    name = printable(str(source))
    try:
        if not folder.is_dir():
            what = "is a file, not a folder" if folder.exists() else "does not exist"
            raise BadData(f"{name} {what}; give digits or a folder: {folders.LAYOUTS}")
        place = idx.find(folder)
        if place is not None:
            return _idx(folder, place, seed, validation)
        return _folder(folder, seed, validation)
    except OSError as error:
        at = printable(str(error.filename or name))
        raise BadData(f"{name} cannot be read: {at}: {(error.strerror or str(error)).lower()}") from None


def _digits(seed: int, validation: float) -> Data:
    with gzip.open(DIGITS, "rt", newline="") as file:
        table = np.array(list(csv.reader(file)), np.int64)
    pixels = (table[:, :-1] * 255 + 8) // 16  # 0..16 to 0..255, rounded
    images = pixels.astype(np.uint8).reshape(-1, 8, 8)
    classes = tuple(str(i) for i in range(10))
    splits, rule = _divided(Split("all", table[:, -1], images, classes=classes), seed, validation)
    return Data("digits", "digits", classes, splits, 1, rule)


def _idx(folder: Path, place: Path, seed: int, validation: float) -> Data:
    parts = idx.read(place)
    values = np.unique(parts["train"][1])
    names = _class_names(place, values)
    if len(values) < 2:
        raise BadData(f"{printable(str(place))} has one class, {names[0]!r}; a classifier needs two or more")
    splits = {}
    for split, (images, labels) in parts.items():
        extra = np.setdiff1d(labels, values)
        if len(extra):
            raise BadData(f"label {extra[0]} of {split} in {printable(str(place))} is missing in train")
        splits[split] = Split(split, np.searchsorted(values, labels), images, classes=names)
    splits, rule = _held_out(splits, seed, validation)
    name = folder.resolve().name
    return Data(printable(name), printable(str(folder)), names, splits, 1, f"{rule}{_lacking(splits)}")


def _class_names(place: Path, values: np.ndarray) -> tuple[str, ...]:
    """The lines of classes.txt that the labels number, else the numbers."""
    file = place / "classes.txt"
    if not file.is_file():
        return tuple(str(v) for v in values)
    try:
        lines = [line.strip() for line in file.read_text(encoding="utf-8").splitlines()]
    except ValueError:
        raise BadData(f"{printable(str(file))} is not UTF-8 text; give a class name a line") from None
    if len(lines) <= values.max() or len(set(lines)) < len(lines) or not all(lines):
        raise BadData(
            f"{printable(str(file))} has {len(lines)} lines; labels go to {values.max()}, so give "
            f"{values.max() + 1} different class names, one a line"
        )
    return tuple(lines[v] for v in values)


def _folder(folder: Path, seed: int, validation: float) -> Data:
    found = folders.scan(folder)
    splits = {
        role: Split(role or "all", part.labels, None, Paths(part.paths, part.root), part.classes)
        for role, part in found.parts.items()
    }
    if "" in splits:
        splits, rule = _divided(splits[""], seed, validation)
    else:
        splits, rule = _held_out(splits, seed, validation)
    return Data(
        printable(folder.resolve().name),
        printable(str(folder)),
        found.classes,
        splits,
        _channels(next(iter(splits.values()))),
        f"{rule}{_lacking(splits)}",
        _sorted(found.ignored),
    )


def _divided(split: Split, seed: int, validation: float) -> tuple[dict[str, Split], str]:
    parts = divide(split.labels, test=TEST, validation=validation, seed=seed)
    splits = {name: split.take(name, positions) for name, positions in parts.items() if len(positions)}
    return splits, (
        f"a fifth of each class is the test split and {100 * validation:g} % of the rest the validation split, "
        f"drawn with seed {seed}"
    )


def _held_out(splits: dict[str, Split], seed: int, validation: float) -> tuple[dict[str, Split], str]:
    """Splits as they came, with a validation split taken from train where there is none."""
    given = f"{_listed(list(splits))} as given"
    if "validation" in splits or "train" not in splits:
        return splits, given
    train = splits["train"]
    parts = divide(train.labels, test=0, validation=validation, seed=seed)
    if not len(parts["validation"]):
        return splits, f"{given}, no validation split"
    taken = {name: train.take(name, parts[name]) for name in ("train", "validation")}
    rest = {name: split for name, split in splits.items() if name != "train"}
    return (
        taken | rest,
        f"{given}; {100 * validation:g} % of each class of train held out for validation with seed {seed}",
    )


def _lacking(splits: dict[str, Split]) -> str:
    """What `rule` says of classes without an image in a split."""
    said = []
    for name, split in splits.items():
        missing = [c for c, n in zip(split.classes, split.counts(), strict=True) if n == 0]
        if missing:
            said.append(f"; {name} has no image of {_listed(missing)}")
    return "".join(said)


def _channels(split: Split) -> int:
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


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _sorted(counter: Counter[str]) -> dict[str, int]:
    return dict(sorted(counter.items(), key=lambda item: (-item[1], item[0])))
