"""Images that a set holds more than once, and what that does to its splits and classes."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from ..sets import Data
from . import alike
from .examining import Sights

Kind = Literal["file", "pixels", "near"]


@dataclass(frozen=True)
class Copy:
    """One image of a group of duplicates."""

    image: str  # its path, or its number in memory
    split: str
    label: str


@dataclass(frozen=True)
class Group:
    """Images that are the same file, byte for byte; or different files of the same pixels; or that look the same.

    A near group names all its images, so identical ones among them stand in a group of their own as well.
    """

    kind: Kind
    splits: tuple[str, ...]  # more than one: the set leaks
    classes: tuple[str, ...]  # more than one: labels contradict each other
    copies: tuple[Copy, ...]


@dataclass(frozen=True)
class Leak:
    """Images of one split that another holds too: with the same pixels, and further ones that look the same."""

    split: str
    other: str
    identical: int
    near: int


def groups(data: Data, seen: Sights) -> tuple[list[Group], list[Leak]]:
    """All groups, those across splits and classes first, and how many images each split shares with those before it."""
    splits = list(data.splits.values())
    same = _same(seen.pixels, np.flatnonzero(seen.good))
    near = _near(seen, same)
    found = []
    for rows in same:
        files = {seen.file[r] for r in rows}
        found.append(_group(data, seen, "file" if len(files) == 1 and files != {b""} else "pixels", rows))
    found += [_group(data, seen, "near", rows) for rows in near]
    found.sort(key=lambda g: (len(g.splits) == 1, len(g.classes) == 1))
    names = [s.name for s in splits]
    return found, list(_leaks(names, seen.split, same, near))


def _same(digests: np.ndarray, rows: np.ndarray) -> list[list[int]]:
    """Rows of equal digests, in order."""
    _, inverse, counts = np.unique(digests[rows], return_inverse=True, return_counts=True)
    repeated = np.flatnonzero(counts[inverse] > 1)
    joined: dict[int, list[int]] = {}
    for at in repeated.tolist():
        joined.setdefault(int(inverse[at]), []).append(int(rows[at]))
    return list(joined.values())


def _near(seen: Sights, same: list[list[int]]) -> list[list[int]]:
    """Rows that look the same, identical ones included where others are among them."""
    rest = {group[0]: group for group in same}
    repeated = {row for group in same for row in group[1:]}
    usable = seen.good & (seen.size.min(1) >= LEAST)
    usable[list(repeated)] = False
    usable[usable] = ~alike.plain(seen.thumbnails[usable])
    rows = np.flatnonzero(usable)
    small = seen.size[rows].min(1) < alike.SIDE
    edges = alike.pairs(seen.thumbnails[rows], seen.colours[rows], small)
    joined = [[int(rows[i]) for i in part] for part in alike.components(edges, len(rows))]
    return [sorted(r for row in part for r in rest.get(row, [row])) for part in joined]


LEAST = 16  # shorter side from which near duplicates are looked for; digits of 8x8 are alike without being copies


def _group(data: Data, seen: Sights, kind: Kind, rows: Iterable[int]) -> Group:
    splits = list(data.splits.values())
    copies = []
    for row in rows:
        split, number = splits[seen.split[row]], int(seen.number[row])
        copies.append(Copy(split.named(number), split.name, split.classes[split.labels[number]]))
    return Group(
        kind,
        tuple(dict.fromkeys(c.split for c in copies)),
        tuple(dict.fromkeys(c.label for c in copies)),
        tuple(copies),
    )


def _leaks(names: list[str], split: np.ndarray, same: list[list[int]], near: list[list[int]]) -> Iterator[Leak]:
    for other, one in combinations(range(len(names)), 2):
        identical = _shared(split, same, one, other)
        alike_too = _shared(split, near, one, other) - identical
        if identical or alike_too:
            yield Leak(names[one], names[other], len(identical), len(alike_too))


def _shared(split: np.ndarray, found: list[list[int]], one: int, other: int) -> set[int]:
    """Rows of split `one` that are in a group with a row of split `other`."""
    with_other = (g for g in found if any(split[r] == other for r in g))
    return {r for g in with_other for r in g if split[r] == one}
