"""A look at every image of a set before anything is trained on it."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from .. import layout, units
from ..errors import BadImage
from ..record import to_json
from .decoding import BadFile, Look, look
from .parallel import cores, in_order
from .sets import Data, Split, open_data

IMBALANCE = 10  # largest class over smallest from which a warning is given

Progress = Callable[[int, int], None]


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
    bad: int


@dataclass(frozen=True)
class Check:
    """What a data set holds and what is wrong with it."""

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

    def as_json(self) -> str:
        return to_json(self, indent=1)

    def as_text(self) -> str:
        """Tables of classes and sizes, then warnings and bad files, one a line."""
        columns = [layout.Column("class"), *(layout.Column(s.name, True) for s in self.splits)]
        rows: list[list[layout.Cell]] = [[c, *(s.per_class[c] for s in self.splits)] for c in self.classes]
        counts = layout.text(columns, rows, ["total", *(s.images for s in self.splits)])
        shapes = layout.text(SIZES, [_sizes(s) for s in self.splits])
        lines = [f"{self.name}: {self.rule}.", "", counts, "", shapes, ""]
        lines.append(f"Largest training class over smallest: {self.balance:.3g}.")
        if self.ignored:
            lines.append(f"Ignored: {', '.join(f'{n:,} {kind}' for kind, n in self.ignored.items())}.")
        lines += [f"Warning: {w}." for w in self.warnings]
        images = sum(s.images for s in self.splits)
        lines.append(f"Cannot be read: {units.of(len(self.bad), images)}." if self.bad else "Every image can be read.")
        lines += [f"  {b.path}: {b.reason}" for b in self.bad]
        return "\n".join(lines)


SIZES = (
    layout.Column("split"),
    layout.Column("smallest", True),
    layout.Column("median", True),
    layout.Column("largest", True),
    layout.Column("colour modes"),
    layout.Column("bad", True),
)


def check(source: str | Path, *, progress: Progress | None = None) -> Check:
    """Decodes every image of a set and reports; nothing on disk is changed.

    `progress(done, total)` is called after each image. Raises BadData where `open_data` does.
    """
    data = open_data(source)
    total = sum(len(split) for split in data.splits.values())
    bad: list[BadFile] = []
    done = 0
    splits = []
    for split in data.splits.values():
        looks: list[Look] = []
        faults = 0
        for seen in _looks(split):
            if isinstance(seen, BadFile):
                bad.append(seen)
                faults += 1
            else:
                looks.append(seen)
            done += 1
            if progress is not None:
                progress(done, total)
        splits.append(_split_check(split, looks, faults))
    counts = [n for n in splits[0].per_class.values() if n]
    balance = max(counts) / min(counts)
    return Check(
        data.name,
        data.source,
        data.rule,
        data.channels,
        data.classes,
        tuple(splits),
        balance,
        data.ignored,
        tuple(_warnings(data, splits, balance)),
        tuple(bad),
    )


def examine(split: Split, number: int) -> Look | BadFile:
    """What a stored image holds, or why it cannot be read."""
    assert split.stored is not None
    try:
        given = split.stored.read(number)
        if isinstance(given, np.ndarray):
            return Look(given.shape[1], given.shape[0], "L" if given.ndim == 2 else "RGB")
        return look(given)
    except BadImage as error:
        return bad_file(split.named(number), error)


def bad_file(name: str, error: BadImage) -> BadFile:
    return BadFile(name, str(error).removeprefix(f"{name}: "))


def natural(name: str) -> list[tuple[int, int | str]]:
    """The order people expect, "2" before "10"; timm sorts class folders so."""
    return [(0, int(part)) if part.isdecimal() else (1, part.lower()) for part in re.split(r"(\d+)", name) if part]


def _looks(split: Split) -> Iterator[Look | BadFile]:
    if split.stored is not None:
        yield from in_order(partial(examine, split), range(len(split)), cores())
    elif split.images is not None:
        height, width = split.images.shape[1:3]
        yield from (Look(width, height, "L" if split.images.ndim == 3 else "RGB") for _ in split.images)


def _split_check(split: Split, looks: list[Look], faults: int) -> SplitCheck:
    per_class = {c: int(n) for c, n in zip(split.classes, split.counts(), strict=True)}
    sizes = sorted(((s.width, s.height) for s in looks), key=lambda size: (size[0] * size[1], size))
    return SplitCheck(
        split.name,
        len(split),
        per_class,
        tuple(c for c, n in per_class.items() if n == 0),
        sizes[0] if sizes else None,
        sizes[len(sizes) // 2] if sizes else None,
        sizes[-1] if sizes else None,
        dict(Counter(s.mode for s in looks).most_common()),
        faults,
    )


def _warnings(data: Data, splits: list[SplitCheck], balance: float) -> Iterator[str]:
    if data.source != "digits" and data.splits["train" if "train" in data.splits else next(iter(data.splits))].stored:
        expected = sorted(data.classes, key=natural)
        differs = [c for c, e in zip(data.classes, expected, strict=True) if c != e]
        if differs:
            yield (
                f"classes are in string order, {data.classes[0]!r} first; tools that sort naturally (timm) number "
                f"{len(differs)} of them differently, so use the stored names"
            )
    for split in splits:
        if split.missing:
            yield f"{split.name} has no image of {', '.join(split.missing)}"
    if balance >= IMBALANCE:
        yield f"the largest training class has {balance:.3g} times as many images as the smallest"
    modes = {mode for split in splits for mode in split.modes}
    if len(modes & {"L", "1", "LA", "I;16"}) and len(modes - {"L", "1", "LA", "I;16"}):
        yield f"grey and colour images are mixed; all are read as {'colour' if data.channels == 3 else 'grey'}"


def _sizes(s: SplitCheck) -> list[layout.Cell]:
    modes = ", ".join(f"{mode} {n:,}" for mode, n in s.modes.items())
    sizes = [units.shape(size) if size else None for size in (s.smallest, s.median, s.largest)]
    return [s.name, *sizes, modes, s.bad]
