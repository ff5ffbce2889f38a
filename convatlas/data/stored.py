"""Images that are not held in memory as pixels: where each comes from, and what a decoder gets of it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

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

    def order(self, stream: int) -> np.ndarray | None:
        """A shuffled order of all that is read well from where it lies, by the random stream; None: any order is."""


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
