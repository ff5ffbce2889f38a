"""Image folders: a folder a class, with or without train, validation and test above."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import BadData
from . import classes
from .decoding import EXTENSIONS, printable

ROLES = {"train": "train", "validation": "validation", "val": "validation", "valid": "validation", "test": "test"}
LAYOUTS = (
    "known layouts are train/CLASS/*.jpg with validation/ (or val/, valid/) and test/ beside it, CLASS/*.jpg alone, "
    "MNIST's files train-images-idx3-ubyte.gz and so on, CIFAR's python or binary batches, tar shards, a packed set, "
    "a folder that Hugging Face's datasets saved, and a CSV file of path and label"
)


@dataclass
class Part:
    """The images below one folder of class folders, in the order of class and path."""

    root: Path
    classes: tuple[str, ...]
    paths: tuple[Path, ...]
    labels: np.ndarray


@dataclass
class Found:
    parts: dict[str, Part]  # by split; the one key "" for a folder that is not divided
    classes: tuple[str, ...]
    ignored: Counter[str] = field(default_factory=Counter)


def scan(folder: Path) -> Found:
    """Lists the images by class; class order is the plain string order, as torchvision's ImageFolder has it.

    Links to folders are followed, each real folder once a class. Raises BadData where there are no two classes, where a
    class has no image, and where a split has a class that train lacks.
    """
    ignored: Counter[str] = Counter()
    roles = _roles(folder)
    if roles:
        # A split may lack a class; the training split may not.
        parts = {role: _part(place, ignored, strict=role == "train") for role, place in roles.items()}
        _note_files(folder, ignored)
    else:
        parts = {"": _part(folder, ignored, strict=True)}
    first = next(iter(parts.values()))
    for role, part in parts.items():
        if role and not part.paths:
            raise BadData(f"{printable(str(part.root))} holds no image; add images or remove the {role} folder")
        number = classes.numbers(part.classes, first.classes, printable(str(part.root)), printable(str(first.root)))
        part.labels = np.array(number, np.int64)[part.labels] if number else part.labels
        part.classes = first.classes
    if len(first.classes) < 2:
        raise BadData(_too_few(folder, first))
    return Found(parts, first.classes, ignored)


def _roles(folder: Path) -> dict[str, Path]:
    """The split folders in the order train, validation, test; empty when the folder holds class folders instead.

    "train" is also a vehicle and "test" could be a class, so a name alone does not make a split: there must be class
    folders in it, and a training split or nothing else beside it.
    """
    places = {place.name.lower(): place for place in _folders(folder)}
    found: dict[str, Path] = {}
    for name, place in places.items():
        role = ROLES.get(name)
        if role is None or not _folders(place):
            continue
        if role in found:
            raise BadData(
                f"{printable(str(folder))} holds both {found[role].name} and {place.name}; keep one validation folder"
            )
        found[role] = place
    if "train" not in found and len(found) < len(places):
        return {}
    return {role: found[role] for role in ("train", "validation", "test") if role in found}


def _part(root: Path, ignored: Counter[str], strict: bool) -> Part:
    places = _folders(root)
    _note_files(root, ignored)
    names: list[str] = []
    paths: list[Path] = []
    labels: list[int] = []
    empty: list[str] = []
    above = [_identity(place) for place in (root.resolve(), *root.resolve().parents)]
    for place in places:
        images: list[Path] = []
        _gather(place, images, ignored, set(above))
        if images:
            labels += [len(names)] * len(images)
            names.append(_class_name(place))
            paths += images
        else:
            empty.append(place.name)
    if paths and empty and strict:
        raise BadData(f"class {empty[0]!r} of {printable(str(root))} has no image; add images or remove the folder")
    return Part(root, tuple(names), tuple(paths), np.array(labels, np.int64))


def _class_name(place: Path) -> str:
    if not classes.is_plain(place.name):
        raise BadData(f"the class folder {printable(str(place))} has a name that is no plain text (UTF-8); rename it")
    return place.name


def _folders(folder: Path) -> list[Path]:
    """Folders that are not hidden, links to folders too, by name."""
    with os.scandir(folder) as entries:
        return sorted(
            (Path(e.path) for e in entries if not e.name.startswith(".") and _is_folder(e)), key=lambda p: p.name
        )


def _gather(folder: Path, images: list[Path], ignored: Counter[str], seen: set[tuple[int, int]]) -> None:
    """Appends the images below a folder; links to what has been `seen`, or lies above, are not followed."""
    if _identity(folder) in seen:
        return
    seen.add(_identity(folder))
    with os.scandir(folder) as listing:
        entries = sorted((e for e in listing if not e.name.startswith(".")), key=lambda e: e.name)
    for entry in entries:
        path = Path(entry.path)
        if _is_folder(entry):
            _gather(path, images, ignored, seen)
        elif path.suffix.lower() in EXTENSIONS:
            images.append(path)  # broken links and pipes too: decoding names them
        else:
            ignored[_kind(path)] += 1


def _identity(folder: Path) -> tuple[int, int]:
    about = folder.stat()
    return about.st_dev, about.st_ino


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _note_files(folder: Path, ignored: Counter[str]) -> None:
    """Counts files that lie beside class or split folders and so belong to no class."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and not _is_folder(entry):
                path = Path(entry.path)
                image = path.suffix.lower() in EXTENSIONS
                ignored["images outside class folders" if image else _kind(path)] += 1


def _kind(path: Path) -> str:
    return printable(path.suffix.lower()) or "without extension"


def _too_few(folder: Path, part: Part) -> str:
    where = printable(str(part.root))
    if not part.classes:
        return f"no class folders with images in {where}; {LAYOUTS}"
    only = part.root / part.classes[0]
    inner = f", or did you mean {printable(str(only))}?" if _folders(only) else ""
    return f"{where} has one class, {part.classes[0]!r}; a classifier needs two or more class folders{inner}"
