"""A look at every image of a set before anything is trained on it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...record import to_json
from ..decoding import BadFile
from ..opening import open_data
from ..sets import Data, Split
from . import alike, wording
from .duplicates import Group, Leak, groups
from .examining import Progress, Sights, misnamed, sights

IMBALANCE = 10  # largest class over smallest from which a warning is given
TINY = 4  # the median's shorter side over an image's from which it is listed
LEAST_SIDE = 8  # pixels below which an image is listed in any case
GREYS = {"L", "1", "LA", "I;16", "I;16B"}


@dataclass(frozen=True)
class SplitCheck:
    """One split: images per class (unreadable ones too), upright sizes by area, Pillow's colour modes."""

    name: str
    images: int
    per_class: dict[str, int]
    missing: tuple[str, ...]  # classes without an image
    smallest: tuple[int, int] | None  # width, height
    median: tuple[int, int] | None
    largest: tuple[int, int] | None
    modes: dict[str, int]
    formats: dict[str, int]  # of files
    turned: int  # files that EXIF turns upright
    bad: int


@dataclass(frozen=True)
class Misnamed:
    """A file whose extension is that of another format."""

    image: str
    format: str


@dataclass(frozen=True)
class Check:
    """What a data set holds and what is wrong with it. The fields are the keys of `as_json`, complete:

    name, source, rule, channels (1 grey, 3 colour), classes; splits, each a SplitCheck; balance, the largest training
    class over the smallest; ignored, files that are no images by kind; warnings, sentences; bad, {path, reason};
    duplicates, {kind: file | pixels | near, splits, classes, copies: [{image, split, label}]}, those across splits and
    classes first; leaks, {split, other, identical, near}; misnamed, {image, format}; and names of images: tiny,
    plain (one colour), positions (EXIF tells where they were taken), cameras (EXIF names what took them).
    """

    name: str
    source: str
    rule: str
    channels: int
    classes: tuple[str, ...]
    splits: tuple[SplitCheck, ...]
    balance: float  # largest training class over smallest
    ignored: dict[str, int]
    warnings: tuple[str, ...]
    bad: tuple[BadFile, ...]
    duplicates: tuple[Group, ...]
    leaks: tuple[Leak, ...]
    misnamed: tuple[Misnamed, ...]
    tiny: tuple[str, ...]
    plain: tuple[str, ...]
    positions: tuple[str, ...]
    cameras: tuple[str, ...]

    def as_json(self) -> str:
        return to_json(self, indent=1)

    def as_text(self) -> str:
        """Tables of classes, sizes and duplicates, warnings, and lists of what to look at; long ones are cut."""
        return wording.text(self)


def check(source: str | Path | Data, *, progress: Progress | None = None) -> Check:
    """Decodes every image of a set once and reports; nothing on disk is changed.

    `progress(done, total)` is called as images are done. Takes 1.2 kB of memory an image beside the names. Raises
    BadData where `open_data` does.
    """
    data = source if isinstance(source, Data) else open_data(source)
    seen, faults = sights(data, progress)
    found, leaks = groups(data, seen)
    per_split = np.bincount(seen.split[[row for row, _ in faults]], minlength=len(data.splits))
    splits = [
        _split_check(split, seen, seen.good & (seen.split == i), int(per_split[i]))
        for i, split in enumerate(data.splits.values())
    ]
    counts = [n for n in splits[0].per_class.values() if n]
    balance = max(counts) / min(counts)
    plain = seen.good.copy()
    plain[plain] = alike.plain(seen.thumbnails[plain])
    return Check(
        data.name,
        data.source,
        data.rule,
        data.channels,
        data.classes,
        tuple(splits),
        balance,
        data.ignored,
        tuple(_warnings(data, splits, balance, found, leaks)),
        tuple(bad for _, bad in faults),
        tuple(found),
        tuple(leaks),
        tuple(_misnamed(data, seen)),
        _names(data, seen, _tiny(seen)),
        _names(data, seen, plain),
        _names(data, seen, seen.told[:, 1]),
        _names(data, seen, seen.told[:, 2]),
    )


def _split_check(split: Split, seen: Sights, rows: np.ndarray, faults: int) -> SplitCheck:
    per_class = {c: int(n) for c, n in zip(split.classes, split.counts(), strict=True)}
    sizes = seen.size[rows]
    order = sizes[np.lexsort((sizes[:, 1], sizes[:, 0], sizes.prod(1)))].tolist()
    smallest, median, largest = (
        ((w, h) for w, h in (order[0], order[len(order) // 2], order[-1])) if order else [None] * 3
    )
    kinds = [(seen.kinds[k], int(n)) for k, n in enumerate(np.bincount(seen.kind[rows])) if n]
    modes: Counter[str] = Counter()
    formats: Counter[str] = Counter()
    for (mode, format), n in kinds:
        modes[mode] += n
        formats[format] += n
    del formats[""]
    missing = tuple(c for c, n in per_class.items() if n == 0)
    turned = int(seen.told[rows, 0].sum())
    return SplitCheck(
        split.name,
        len(split),
        per_class,
        missing,
        smallest,
        median,
        largest,
        dict(modes.most_common()),
        dict(formats.most_common()),
        turned,
        faults,
    )


def _named(data: Data, seen: Sights, row: int) -> str:
    return list(data.splits.values())[seen.split[row]].named(int(seen.number[row]))


def _names(data: Data, seen: Sights, rows: np.ndarray) -> tuple[str, ...]:
    return tuple(_named(data, seen, row) for row in np.flatnonzero(rows).tolist())


def _misnamed(data: Data, seen: Sights) -> Iterator[Misnamed]:
    for row in np.flatnonzero(seen.good).tolist():
        format = seen.kinds[seen.kind[row]][1]
        if format and misnamed(name := _named(data, seen, row), format):
            yield Misnamed(name, format)


def _tiny(seen: Sights) -> np.ndarray:
    """bool (N,): images much smaller than the others, or too small for anything; none where all are so."""
    sides = seen.size.min(1)
    if not seen.good.any():
        return seen.good
    median = np.median(sides[seen.good])
    return seen.good & ((sides * TINY < median) | ((sides < LEAST_SIDE) & (median >= LEAST_SIDE)))


def _warnings(
    data: Data, splits: list[SplitCheck], balance: float, found: list[Group], leaks: list[Leak]
) -> Iterator[str]:
    yield from data.warnings
    if balance >= IMBALANCE:
        yield f"the largest training class has {balance:.3g} times as many images as the smallest"
    modes = {mode for split in splits for mode in split.modes}
    if modes & GREYS and modes - GREYS:
        yield f"grey and colour images are mixed; all are read as {'colour' if data.channels == 3 else 'grey'}"
    for leak in leaks:
        yield wording.leak(leak, {s.name: s.images for s in splits})
    for kinds in (("file", "pixels"), ("near",)):
        contradicting = sum(len(g.classes) > 1 for g in found if g.kind in kinds)
        if contradicting:
            yield wording.conflict(kinds == ("near",), contradicting)
