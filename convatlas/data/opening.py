"""Opening a data set: which layout a source has, and the rule that divides it."""

import csv
import gzip
from pathlib import Path

import numpy as np

from ..errors import BadData, BadRecipe
from . import arrow, cifar, classes, folders, idx, listing, packed
from .decoding import printable
from .sets import Data, Source, Split, channels
from .stored import Joined, Paths
from .stratify import TEST, divide, folds

DIGITS = Path(__file__).parent / "digits" / "digits.csv.gz"
ADDRESSES = ("http://", "https://")
TAR = ".tar"

Fold = tuple[int, int]


def open_data(source: str | Path, *, seed: int = 0, validation: float = 0.1, fold: Fold | None = None) -> Data:
    """The set "digits", a folder in any layout of `folders.LAYOUTS`, a CSV file, or the address of shards.

    Splits that exist are kept. Where there is no validation split, `validation` of each class's training images is held
    out; a set that is not divided gives a fifth of each class to test first. `fold` (i, k) takes train and validation
    together, divides them into k parts class by class, and makes part i (from 1) the validation split; `validation`
    has no say then. `seed` decides which images, so keep it equal between runs that are compared. Raises BadData,
    BadRecipe for a `fold` or `validation` that cannot be, MissingExtra for a layout whose package is not installed;
    each is one line.
    """
    if fold is not None and not 1 <= fold[0] <= fold[1] >= 2:
        parts = f"1/{fold[1]} to {fold[1]}/{fold[1]}" if fold[1] >= 2 else "such as 1/5"
        raise BadRecipe(f"fold is {fold[0]}/{fold[1]}; give the part and the number of parts, {parts}")
    name = printable(str(source))
    try:
        found = _source(source, name)
    except OSError as error:
        at = printable(str(error.filename or name))
        raise BadData(f"{name} cannot be read: {at}: {(error.strerror or str(error)).lower()}") from None
    if fold is not None:
        splits, rule = _folded(found, name, seed, fold)
    elif "" in found.splits:
        splits, rule = _divided(found, seed, validation)
    else:
        splits, rule = _held_out(found, seed, validation)
    shown = found.channels
    if shown is None:  # judged by what is trained on, and in the same way for every fold
        shown = channels(next(iter((splits if fold is None else found.splits).values())))
    lacking = _lacking(splits)
    order = classes.order_warning(found.classes) if any(s.stored is not None for s in splits.values()) else None
    return Data(
        _name(source),
        name,
        found.classes,
        splits,
        shown,
        "; ".join([rule, *(said for said in lacking if said not in rule)]),
        found.ignored,
        (*found.warnings, *([order] if order else []), *lacking),
    )


def _source(source: str | Path, name: str) -> Source:
    """What lies there, by the first layout that fits."""
    if source == "digits":
        return _digits()
    address = str(source).lower()
    if address.startswith(ADDRESSES):
        found = _shards(str(source))
        if found is None:
            raise BadData(f"{name} is no address of shards; give that of the folder that holds their manifest")
        return found
    if "://" in address:
        raise BadData(f"{name}: only addresses that begin with {' or '.join(ADDRESSES)} are read")
    place = Path(source)
    if place.is_file() and place.suffix.lower() in listing.ENDINGS:
        return listing.read(place)
    if place.is_file() and place.suffix.lower() == TAR and (found := _shards(place)) is not None:
        return found
    if not place.is_dir():
        what = (
            f"is a file of no known kind ({', '.join((*listing.ENDINGS, TAR))})" if place.exists() else "does not exist"
        )
        raise BadData(f"{name} {what}; give digits or a folder, a CSV file or the address of shards; {folders.LAYOUTS}")
    if packed.is_packed(place):
        return packed.read(place)
    if _may_be_shards(place) and (found := _shards(place)) is not None:
        return found
    if arrow.is_arrow(place):
        return arrow.read(place)
    batches = cifar.find(place)
    if batches is not None:
        return cifar.read(*batches)
    numbers = idx.find(place)
    return _folder(place) if numbers is None else _idx(numbers)


def _may_be_shards(place: Path) -> bool:
    """A cheap look, so that the reader of shards is imported only where there may be some."""
    if (place / "manifest.json").is_file() or any(place.glob(f"*{TAR}")):
        return True
    return any(any(inner.glob(f"*{TAR}")) for inner in place.iterdir() if inner.name.lower() in folders.ROLES)


def _shards(source: str | Path) -> Source | None:
    from . import shards

    if not shards.is_shards(source):
        return None
    found = shards.read(source)
    return Source(found.splits, found.classes, found.channels, rule=found.rule)


def _digits() -> Source:
    with gzip.open(DIGITS, "rt", newline="") as file:
        table = np.array(list(csv.reader(file)), np.int64)
    pixels = (table[:, :-1] * 255 + 8) // 16  # 0..16 to 0..255, rounded
    images = pixels.astype(np.uint8).reshape(-1, 8, 8)
    names = tuple(str(i) for i in range(10))
    return Source({"": Split("all", table[:, -1], images, classes=names)}, names, 1)


def _idx(place: Path) -> Source:
    parts = idx.read(place)
    values = np.unique(parts["train"][1])
    names = idx.class_names(place, values)
    if len(values) < 2:
        raise BadData(f"{printable(str(place))} has one class, {names[0]!r}; a classifier needs two or more")
    splits = {}
    for split, (images, labels) in parts.items():
        extra = np.setdiff1d(labels, values)
        if len(extra):
            raise BadData(f"label {extra[0]} of {split} in {printable(str(place))} is missing in train")
        splits[split] = Split(split, np.searchsorted(values, labels), images, classes=names)
    return Source(splits, names, 1)


def _folder(folder: Path) -> Source:
    found = folders.scan(folder)
    splits = {
        role: Split(role or "all", part.labels, None, Paths(part.paths, part.root), part.classes)
        for role, part in found.parts.items()
    }
    ignored = dict(sorted(found.ignored.items(), key=lambda item: (-item[1], item[0])))
    return Source(splits, found.classes, None, ignored)


def _divided(found: Source, seed: int, validation: float) -> tuple[dict[str, Split], str]:
    whole = found.splits[""]
    parts = divide(whole.labels, test=TEST, validation=validation, seed=seed)
    splits = {name: whole.take(name, positions) for name, positions in parts.items() if len(positions)}
    return splits, _after(
        found.rule,
        f"a fifth of each class is the test split and {100 * validation:g} % of the rest the validation split, "
        f"drawn with seed {seed}",
    )


def _held_out(found: Source, seed: int, validation: float) -> tuple[dict[str, Split], str]:
    """Splits as they came, with a validation split taken from train where there is none."""
    splits = found.splits
    given = found.rule or f"{_listed(list(splits))} as given"
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


def _folded(found: Source, name: str, seed: int, fold: Fold) -> tuple[dict[str, Split], str]:
    """Train and validation together, divided anew; what is not to be trained on stays as it is."""
    part, k = fold
    splits = dict(found.splits)
    if "" in splits:
        whole = splits.pop("")
        parts = divide(whole.labels, test=TEST, validation=0, seed=seed)
        splits = {role: whole.take(role, parts[role]) for role in ("train", "test") if len(parts[role])}
        given = _after(found.rule, f"a fifth of each class is the test split, drawn with seed {seed}")
        of = "the rest"
    elif "train" not in splits:
        raise BadData(f"{name} has no train split to divide into folds; it has {_listed(list(splits))}")
    else:
        given = found.rule or f"{_listed(list(splits))} as given"
        of = "train and validation together" if "validation" in splits else "train"
    train = splits.pop("train")
    pool = _merged(train, splits.pop("validation")) if "validation" in splits else train
    counts = pool.counts()
    single = np.flatnonzero(counts == 1)
    if len(single):
        raise BadData(f"class {pool.classes[single[0]]!r} of {name} has one image to train on; folds need two or more")
    numbers = folds(pool.labels, k, seed=seed)
    taken = {
        "train": pool.take("train", np.flatnonzero(numbers != part)),
        "validation": pool.take("validation", np.flatnonzero(numbers == part)),
    }
    return taken | splits, (
        f"{given}; part {part} of {k} of {of}, each class divided evenly with seed {seed}, is the validation split"
    )


def _after(rule: str, said: str) -> str:
    """What we did, behind what the source says of itself."""
    return f"{rule}; {said}" if rule else said


def _merged(train: Split, validation: Split) -> Split:
    labels = np.concatenate([train.labels, validation.labels])
    if train.images is not None and validation.images is not None:
        return Split("train", labels, np.concatenate([train.images, validation.images]), None, train.classes)
    assert train.stored is not None and validation.stored is not None
    stored = Joined((train.stored, validation.stored), ("train", "validation"))
    return Split("train", labels, None, stored, train.classes)


def _lacking(splits: dict[str, Split]) -> list[str]:
    """What to say of classes without an image in a split."""
    said = []
    for role, split in splits.items():
        missing = [c for c, n in zip(split.classes, split.counts(), strict=True) if n == 0]
        if missing:
            said.append(f"{role} has no image of {_listed(missing)}")
    return said


def _name(source: str | Path) -> str:
    """What the set is called: its folder, its file without the ending, or the end of its address."""
    if source == "digits":
        return "digits"
    if "://" in str(source):
        return printable(str(source).rstrip("/").rsplit("/", 1)[-1])
    place = Path(source).resolve()
    return printable(place.stem if place.is_file() else place.name)


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
