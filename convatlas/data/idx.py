"""MNIST's file format, IDX (http://yann.lecun.com/exdb/mnist), plain or gzipped, as MNIST and its relatives use it."""

import gzip
import zlib
from pathlib import Path

import numpy as np

from ..errors import BadData
from .decoding import printable

PARTS = {"train": "train", "test": "t10k"}
BYTES = 4_000_000_000  # of one unpacked file; a gzip bomb ends here


def find(folder: Path) -> Path | None:
    """The folder that holds IDX training images: the given one, its raw/, or torchvision's NAME/raw/.

    Raises BadData when several do.
    """
    for candidates in ([folder], [folder / "raw"], sorted(folder.glob("*/raw"))):
        found = [place for place in candidates if _file(place, "train", "images") is not None]
        if len(found) > 1:
            names = ", ".join(printable(str(place.parent)) for place in found)
            raise BadData(f"{printable(str(folder))} holds several IDX sets; give one of {names}")
        if found:
            return found[0]
    return None


def read(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Images uint8 (N,H,W) and labels int64 (N,) of "train" and, where it is there, "test". Raises BadData."""
    parts = {}
    for split, prefix in PARTS.items():
        images, labels = _file(folder, prefix, "images"), _file(folder, prefix, "labels")
        if images is None and labels is None and split != "train":
            continue
        if images is None or labels is None:
            missing = "images" if images is None else "labels"
            name = f"{prefix}-{missing}-idx{3 if missing == 'images' else 1}-ubyte"
            raise BadData(f"{printable(str(folder))} lacks {name} (or {name}.gz)")
        pixels, answers = array(images, 3), array(labels, 1)
        if len(pixels) != len(answers):
            raise BadData(
                f"{printable(str(folder))}: {images.name} holds {len(pixels):,} images and {labels.name} "
                f"{len(answers):,} labels; the numbers must be equal"
            )
        if not pixels.size:
            raise BadData(f"{printable(str(images))} holds no image")
        parts[split] = pixels, answers.astype(np.int64)
    return parts


def array(path: Path, dimensions: int) -> np.ndarray:
    """The unsigned bytes of one IDX file. Raises BadData that names the file and what its header says."""
    name = printable(str(path))
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            head = file.read(4 + 4 * dimensions)
            if head[:4] != bytes((0, 0, 8, dimensions)) or len(head) < 4 + 4 * dimensions:
                raise BadData(f"{name} is no IDX file of unsigned bytes with {dimensions} dimensions; fetch it again")
            shape = tuple(int.from_bytes(head[i : i + 4], "big") for i in range(4, len(head), 4))
            size = int(np.prod(shape, dtype=object))
            said = f"{name}: its header says {' x '.join(f'{side:,}' for side in shape)} bytes"
            if size > BYTES:
                raise BadData(f"{said}, more than the {BYTES:,} allowed")
            content = file.read(size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise BadData(f"{name}: its gzip data are damaged; fetch it again") from None
    except OSError as error:
        raise BadData(f"{name}: {error.strerror or error}") from None
    if len(content) != size:
        held = f"only {len(content):,}" if len(content) < size else "more"
        raise BadData(f"{said}, but it holds {held}; fetch it again")
    return np.frombuffer(bytearray(content), np.uint8).reshape(shape)


def class_names(place: Path, values: np.ndarray) -> tuple[str, ...]:
    """The lines of classes.txt that the labels `values` number, else the numbers. Raises BadData."""
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


def _file(folder: Path, prefix: str, kind: str) -> Path | None:
    number = 3 if kind == "images" else 1
    for name in (f"{prefix}-{kind}-idx{number}-ubyte", f"{prefix}-{kind}.idx{number}-ubyte"):
        for ending in ("", ".gz"):
            if (folder / f"{name}{ending}").is_file():
                return folder / f"{name}{ending}"
    return None
