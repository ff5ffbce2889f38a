"""A data set before training: looked at, and written anew in a form that is read faster or elsewhere."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from .. import units
from ..errors import BadData, UsageError
from .app import DATA, Json, app, busy, next_step, say

if TYPE_CHECKING:
    from ..data import Data

SIDE = 256  # what the papers scale ImageNet's shorter side to
SHARD = "1GB"


@Parameter(name="*")
@dataclass(frozen=True)
class Copies:
    """Forms in which the set is written, outside its own folder; each is a data set for every verb."""

    pack: Annotated[Path | None, Parameter(help="Write a packed copy here: decoded, reduced, read at once.")] = None
    side: Annotated[int | None, Parameter(help=f"Shorter side of packed images in pixels, default {SIDE}.")] = None
    shards: Annotated[Path | None, Parameter(help="Write tar shards (WebDataset) here: for sets on other disks.")] = (
        None
    )
    shard_size: Annotated[str | None, Parameter(help=f"Bytes of a shard at most, default {SHARD}.")] = None


NONE = Copies()


@app.command(name="check-data", sort_key=4)
def check_data(source: Annotated[str, Parameter(help=DATA)], /, *, copies: Copies = NONE, json: Json = False) -> None:
    """Look at every image of a data set: counts, sizes, duplicates, leaks, files that cannot be read. Exit 3 for those.

    Nothing of the set is changed. Images that splits share, contradicting labels and odd files are told as warnings.

        convatlas check-data photos/
        convatlas check-data photos/ --pack packed/ --side 256
        convatlas check-data photos/ --shards shards/ --shard-size 500MB
    """
    size = _settled(source, copies)
    from ..data import check, open_data

    data = open_data(source)
    with busy(f"looking at {source}") as progress:
        found = check(data, progress=lambda done, total: progress(f"{done:,} of {total:,}"))
    say(found.as_json() if json else found.as_text())
    _write(data, copies, size)
    if found.bad:
        raise BadData(f"{len(found.bad)} of the files cannot be read; they would be left out and counted in training")


def _settled(source: str, copies: Copies) -> int:
    """The bytes of a shard. Raises UsageError for options that cannot be, before anything is looked at."""
    if copies.side is not None and copies.pack is None:
        raise UsageError(f"--side {copies.side} is the size of packed images; give --pack FOLDER as well")
    if copies.side is not None and copies.side < 1:
        raise UsageError(f"--side {copies.side} is no size; give the shorter side in pixels, 1 or more")
    if copies.shard_size is not None and copies.shards is None:
        raise UsageError(f"--shard-size {copies.shard_size} is the size of tar shards; give --shards FOLDER as well")
    for option, out in (("--pack", copies.pack), ("--shards", copies.shards)):
        if out is not None:
            _outside(option, out, Path(source))
    if copies.pack is not None and copies.pack.exists():
        raise UsageError(f"--pack {copies.pack} exists already; give a folder that is not there yet")
    if copies.pack is not None and copies.shards is not None and _within(copies.pack, copies.shards):
        raise UsageError(f"--pack and --shards both lie in {copies.shards}; give two folders side by side")
    try:
        size = units.read_size(copies.shard_size or SHARD)
    except ValueError:
        size = 0
    if size < 1:
        raise UsageError(f"--shard-size {copies.shard_size!r} is no size; write it like 500MB or 1GB")
    return size


def _outside(option: str, out: Path, source: Path) -> None:
    if source.exists() and _within(out, source):
        raise UsageError(f"{option} {out} lies over or in the data set {source}; give a folder outside it")


def _within(one: Path, other: Path) -> bool:
    """Whether one of two folders holds the other."""
    a, b = one.resolve(), other.resolve()
    return a.is_relative_to(b) or b.is_relative_to(a)


def _write(data: "Data", copies: Copies, size: int) -> None:
    if copies.pack is not None:
        from ..data import packed

        with busy(f"packing into {copies.pack}") as words:
            packed.pack(data, copies.pack, copies.side or SIDE, _counting(words))
        next_step(f"convatlas train NETWORK {copies.pack} --out RUN")
    if copies.shards is not None:
        from ..data import shards

        with busy(f"writing shards into {copies.shards}") as words:
            shards.write(data, copies.shards, size=size, progress=_counting(words))
        next_step(f"convatlas train NETWORK {copies.shards} --out RUN")


def _counting(words: Callable[[str], None]) -> Callable[[int, int], None]:
    return lambda done, total: words(f"{done:,} of {total:,}")
