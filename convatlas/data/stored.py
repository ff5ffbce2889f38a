"""Images that are not held in memory as pixels: where each comes from, and what a decoder gets of it."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from ..errors import BadImage
from . import draws
from .decoding import printable


class Stored(Protocol):
    """Images by their number. What is read is a file, a file's bytes, or pixels uint8 (H,W) or (H,W,3).

    It is sent to loader processes, so it can be pickled and opens what it needs there.
    """

    def __len__(self) -> int: ...

    def name(self, number: int) -> str:
        """One printable line that tells a user which image it is."""

    def key(self, number: int) -> bytes:
        """What names the image within its split, wherever the split lies; part of the digest."""

    def read(self, number: int) -> Path | bytes | np.ndarray:
        """Raises BadImage or OSError where it cannot be had."""

    def take(self, positions: np.ndarray) -> "Stored":
        """The images at these positions."""

    def order(self, stream: int) -> np.ndarray | draws.Parts | None:
        """A shuffled order of all that is read well from where it lies, by the random stream; None: any order is.

        Of more images than a list should hold it is read part by part.
        """

    def digest(self) -> str | None:
        """sha256 that stands for keys and contents, where sums were kept beside the images; None: read them."""


@dataclass(frozen=True)
class Paths:
    """A file an image."""

    paths: tuple[Path, ...]
    root: Path | None = None  # the split's folder

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, number: int) -> str:
        return printable(str(self.paths[number]))

    def key(self, number: int) -> bytes:
        path = self.paths[number]
        return os.fsencode((path.relative_to(self.root) if self.root is not None else Path(path.name)).as_posix())

    def read(self, number: int) -> Path:
        return self.paths[number]

    def take(self, positions: np.ndarray) -> "Paths":
        return Paths(tuple(self.paths[i] for i in positions), self.root)

    def order(self, stream: int) -> None:
        return None

    def digest(self) -> None:
        return None


@dataclass(frozen=True)
class Listed:
    """A file an image, by its name below a folder, as a list gives it; a name that leads outside is a bad file."""

    names: tuple[str, ...]
    root: Path

    def __len__(self) -> int:
        return len(self.names)

    def name(self, number: int) -> str:
        return printable(str(self.root / self.names[number]))

    def key(self, number: int) -> bytes:
        return os.fsencode(Path(self.names[number]).as_posix())

    def read(self, number: int) -> Path:
        path = self.root / self.names[number]
        # By name only: a link below the folder is the user's own.
        if Path(os.path.relpath(path, self.root)).parts[:1] == ("..",):
            raise BadImage(f"{self.name(number)}: lies outside {printable(str(self.root))}, the list's folder")
        return path

    def take(self, positions: np.ndarray) -> "Listed":
        return Listed(tuple(self.names[i] for i in positions), self.root)

    def order(self, stream: int) -> None:
        return None

    def digest(self) -> None:
        return None


@dataclass(frozen=True, eq=False)
class Joined:
    """The images of several, one after the other; `roles` says which split each was, and is part of the key."""

    parts: tuple[Stored, ...]
    roles: tuple[str, ...]

    def __len__(self) -> int:
        return sum(len(part) for part in self.parts)

    def name(self, number: int) -> str:
        part, inside = self._place(number)
        return self.parts[part].name(inside)

    def key(self, number: int) -> bytes:
        part, inside = self._place(number)
        return self.roles[part].encode() + b"/" + self.parts[part].key(inside)

    def read(self, number: int) -> Path | bytes | np.ndarray:
        part, inside = self._place(number)
        return self.parts[part].read(inside)

    def take(self, positions: np.ndarray) -> "Joined":
        """One part for each run of positions that lie in the same part: ascending positions keep their parts."""
        starts = self._starts()
        positions = np.asarray(positions, np.int64)
        of = np.searchsorted(starts, positions, side="right") - 1
        runs = np.split(np.arange(len(positions)), np.flatnonzero(np.diff(of)) + 1) if len(positions) else []
        numbers = [int(of[run[0]]) for run in runs]
        parts = [self.parts[n].take(positions[run] - starts[n]) for n, run in zip(numbers, runs, strict=True)]
        return Joined(tuple(parts), tuple(self.roles[n] for n in numbers))

    def order(self, stream: int) -> np.ndarray | None:
        """The parts' own orders, drawn from in turns by chance; None where every part may be read in any order.

        It is a list, 16 bytes an image while it is made: whose turn it is follows from all turns before.
        """
        own = [part.order(draws.key(stream, i)) for i, part in enumerate(self.parts)]
        if all(order is None for order in own):
            return None
        starts = self._starts()
        turns = np.repeat(np.arange(len(own)), [len(part) for part in self.parts])[draws.order(stream, len(self))]
        merged = np.empty(len(self), np.int64)
        for i, (order, part) in enumerate(zip(own, self.parts, strict=True)):
            own_order = draws.Permutation(draws.key(stream, i), len(part)) if order is None else order
            merged[turns == i] = starts[i] + draws.part(own_order, 0, len(part))
        return merged

    def digest(self) -> str | None:
        own = [part.digest() for part in self.parts]
        if not own or None in own:
            return None
        sums = "".join(
            f"{role} {digest} {len(part)}\n" for role, digest, part in zip(self.roles, own, self.parts, strict=True)
        )
        return hashlib.sha256(sums.encode()).hexdigest()

    def _starts(self) -> np.ndarray:
        return np.cumsum([0, *(len(part) for part in self.parts[:-1])])

    def _place(self, number: int) -> tuple[int, int]:
        for i, part in enumerate(self.parts):
            if number < len(part):
                return i, number
            number -= len(part)
        raise IndexError(number)
