"""The time to read, decode and preprocess an image, which no forward time includes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from time import perf_counter

import numpy as np
from PIL import Image

from ..data import Preprocess, open_data
from ..data.decoding import decode, printable
from ..data.sets import Split, spaced
from ..errors import BadImage, ConvAtlasError
from ..record import from_json
from ..result import Loading
from .sources import Source, is_run

IMAGES = 64
SPLITS = ("test", "validation", "train")  # the first that is there


@dataclass(frozen=True)
class _Data:
    source: str


@dataclass(frozen=True)
class _Config:
    """The part of a run folder's config.json that is read here."""

    data: _Data


def loading(source: Source) -> tuple[Loading | None, str]:
    """The time an image on one thread, over 64 images of a run's data or a bundle's replay; else None and the reason.

    Each image is read once before it is timed, so that the disk is left out. An address is never asked.
    """
    if source.preprocess is None:
        return None, ""
    found = _of_run(Path(source.given)) if is_run(source.given) else _of_bundle(Path(source.given))
    if isinstance(found, str):
        return None, found
    of, readers = found
    times = list(_times(readers, source.preprocess))
    if not times:
        return None, f"none of {of} can be read"
    low, middle, high = quantiles(times, n=4, method="inclusive") if len(times) > 1 else times * 3
    return Loading(middle, low, high, len(times), of), ""


Reader = Callable[[int], Image.Image]  # given the channels, the decoded picture
Found = tuple[str, Sequence[Reader]]


def _of_run(run: Path) -> Found | str:
    try:
        given = from_json(_Config, (run / "config.json").read_bytes()).data.source
    except (OSError, ValueError):
        return "config.json does not name the data"
    if "://" in given:
        return f"the data lies at an address ({printable(given)})"
    try:
        data = open_data(given)
    except ConvAtlasError as error:
        return f"the data cannot be read any more: {error}"
    split = next(data.splits[name] for name in SPLITS if name in data.splits)
    numbers = spaced(len(split), IMAGES)
    of = f"{len(numbers)} of the {len(split):,} {split.name} images of {data.name}"
    return of, [_reader(split, number) for number in numbers]


def _reader(split: Split, number: int) -> Reader:
    return lambda channels: split.picture(number, channels)


def _of_bundle(bundle: Path) -> Found | str:
    paths = sorted(p for p in (bundle / "replay").glob("*") if p.is_file())[:IMAGES]
    if not paths:
        return "the bundle has no replay images"

    def reader(path: Path) -> Reader:
        return lambda channels: decode(path, channels)

    return f"the bundle's {len(paths)} replay images", [reader(path) for path in paths]


def _times(readers: Sequence[Reader], preprocess: Preprocess) -> list[float]:
    """Milliseconds of each image that can be read."""
    times = []
    for reader in readers:
        try:
            _prepare(reader, preprocess)
            begin = perf_counter()
            _prepare(reader, preprocess)
            times.append(1000 * (perf_counter() - begin))
        except BadImage:
            continue
    return times


def _prepare(reader: Reader, preprocess: Preprocess) -> np.ndarray:
    return preprocess.normalise(preprocess.array(reader(preprocess.channels))[None])
