"""Batches for training and evaluation; the same for any number of workers, any start and any batch size."""

import signal
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import BadData, BadImage, BadRecipe, RunFailed
from . import augment as augmentation
from . import draws
from .checking import bad_file
from .decoding import BadFile, printable
from .preprocess import Preprocess
from .sets import Split


class Batch(NamedTuple):
    """images float32 (N,C,H,W), channels_last where C is 3; labels int64 (N,); `position` counts from 0 in the epoch.

    Files that cannot be decoded are left out and listed in `bad`, never replaced.
    """

    images: Tensor
    labels: Tensor
    bad: tuple[BadFile, ...] = ()
    position: int = 0


class _Raw(NamedTuple):
    images: Tensor  # uint8 (N,H,W,C)
    labels: Tensor
    bad: tuple[BadFile, ...]
    position: int


def steps(images: int, batch: int) -> int:
    """Batches of an epoch. A last batch of one image joins the one before: batch norm cannot learn from one image."""
    return len(_portions(np.arange(images), batch))


def train_batches(
    split: Split,
    preprocess: Preprocess,
    augment: Sequence[str],
    *,
    batch: int,
    seed: int,
    epoch: int,
    start: int = 0,
    workers: int = 0,
) -> Iterator[Batch]:
    """The batches of one epoch from number `start` on; those before are not decoded.

    The order follows from (seed, epoch), an image's augmentation from (seed, epoch, its number). The last batch may be
    smaller; a single left-over image joins the batch before it. A batch of nothing but bad files is passed over: its
    files are listed with the next batch, and `position` shows the gap. `workers` processes decode files; sets in memory
    need none. Raises BadRecipe for `augment` or `batch`, BadData for a split of which no image can be decoded.
    """
    plan = augmentation.parse(augment)
    portions = _portions(split.order(draws.key(seed, epoch, draws.ORDER)), batch)
    pictures = _Pictures(split, preprocess, plan, seed, epoch)
    return _batches(
        pictures, list(enumerate(portions))[_not_negative(start, "start") :], _not_negative(workers, "workers")
    )


def eval_batches(split: Split, preprocess: Preprocess, *, batch: int, workers: int = 0) -> Iterator[Batch]:
    """Every image once, in the split's order, through `preprocess.array`; the last batch may hold a single image.

    Bad files and errors as in `train_batches`.
    """
    portions = [np.arange(i, min(i + _at_least_one(batch), len(split))) for i in range(0, len(split), batch)]
    pictures = _Pictures(split, preprocess, augmentation.parse(()), 0, 0)
    return _batches(pictures, list(enumerate(portions)), _not_negative(workers, "workers"))


class _Pictures(Dataset[Any]):
    """(position, image numbers) -> one batch of uint8; a whole batch is one item, so that a worker collates it."""

    def __init__(self, split: Split, preprocess: Preprocess, plan: augmentation.Plan, seed: int, epoch: int):
        self.split, self.preprocess, self.plan = split, preprocess, plan
        self.seed, self.epoch = seed, epoch
        self.whole = plan.part is None and split.fits(preprocess)

    def __getitem__(self, item: tuple[int, np.ndarray]) -> _Raw:
        position, numbers = item
        bad: list[BadFile] = []
        if self.whole:
            images = self.split.prepared(self.preprocess)[numbers]
        else:
            images, numbers = self._read(numbers, bad)
        for change in self.plan.changes:
            images = change.apply(images, self.seed, self.epoch, numbers)
        return _Raw(torch.from_numpy(images), torch.from_numpy(self.split.labels[numbers]), tuple(bad), position)

    def _read(self, numbers: np.ndarray, bad: list[BadFile]) -> tuple[np.ndarray, np.ndarray]:
        p = self.preprocess
        images = np.empty((len(numbers), p.height, p.width, p.channels), np.uint8)
        random = None if self.plan.part is None else self.plan.part.draws(self.seed, self.epoch, numbers)
        good: list[int] = []
        for i, number in enumerate(numbers.tolist()):
            try:
                images[len(good)] = self._one(number, None if random is None else random[i])
            except BadImage as error:
                bad.append(bad_file(self.split.named(number), error))
            else:
                good.append(number)
        return images[: len(good)], np.array(good, np.int64)

    def _one(self, number: int, random: np.ndarray | None) -> np.ndarray:
        p, part = self.preprocess, self.plan.part
        size = p.height, p.width
        if part is None or random is None:
            return p.array(self.split.picture(number, p.channels))
        cut = self.split.cut(number, p.channels, lambda width, height: part.box(random, (width, height), size), size)
        return augmentation.resized(cut, size)


def _batches(pictures: _Pictures, items: list[tuple[int, np.ndarray]], workers: int) -> Iterator[Batch]:
    """Holds one batch back, so that bad files at the end of an epoch always find a batch to be listed with."""
    scale, shift = (torch.from_numpy(a).repeat(pictures.preprocess.width) for a in pictures.preprocess.affine)
    bad: tuple[BadFile, ...] = ()
    held: Batch | None = None
    source = (
        _in_workers(pictures, items, workers) if workers and not pictures.whole else map(pictures.__getitem__, items)
    )
    for raw in source:
        if not len(raw.labels):
            bad += raw.bad
            continue
        if pictures.whole:  # nothing can be bad
            yield _normalised(raw, scale, shift)
            continue
        if held is not None:
            yield held
        held, bad = _normalised(raw._replace(bad=bad + raw.bad), scale, shift), ()
    if held is not None:
        yield held._replace(bad=held.bad + bad)
    elif bad:
        name = printable(pictures.split.name)
        first = f"{bad[0].path}: {bad[0].reason}"
        raise BadData(
            f"none of the {len(bad):,} images of the {name} split that were asked for can be decoded; first {first}"
        )


def _normalised(raw: _Raw, scale: Tensor, shift: Tensor) -> Batch:
    """uint8 (N,H,W,C) -> float32 (N,C,H,W), in the two roundings that Preprocess.normalise makes.

    `scale` and `shift` are a whole row of pixels long (W x C): the inner loop is then long enough for vector units.
    """
    pixels = raw.images.reshape(-1, len(scale))
    # From numpy, which asks for huge pages: touching fresh memory page by page takes longer than the arithmetic.
    rows = torch.from_numpy(np.empty(pixels.shape, np.float32))
    rows.copy_(pixels).mul_(scale).sub_(shift)
    images = rows.view(raw.images.shape).permute(0, 3, 1, 2)
    return Batch(images if images.shape[1] == 3 else images.contiguous(), raw.labels, raw.bad, raw.position)


def _in_workers(pictures: _Pictures, items: list[tuple[int, np.ndarray]], workers: int) -> Iterator[_Raw]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than cores is the user's choice
        loader: DataLoader[Any] = DataLoader(
            pictures,
            batch_size=None,
            sampler=items,
            num_workers=min(workers, max(len(items), 1)),
            collate_fn=_as_it_is,
            worker_init_fn=_undisturbed,
            generator=torch.Generator(),  # else DataLoader draws from the global one
        )
        child = getattr(signal, "SIGCHLD", None)  # Windows has none
        before = child and signal.getsignal(child)
        batches = iter(loader)
    if child and signal.getsignal(child) is not before:
        # torch would raise for a dead worker wherever the main process is, in the middle of a save too; it is found
        # without that when its batch is due.
        signal.signal(child, before)
    try:
        yield from batches
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise RunFailed(
            f"a loading process ended unexpectedly ({' '.join(str(error).split())[:120]}); try fewer workers, or 0"
        ) from error


def _as_it_is(raw: Any) -> Any:
    return raw


def _undisturbed(_: int) -> None:
    """Ctrl-C and SIGTERM reach the whole process group; the main process decides, and ends its workers itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _portions(order: np.ndarray, batch: int) -> list[np.ndarray]:
    cuts = list(range(_at_least_one(batch), len(order), batch))
    if batch > 1 and cuts and len(order) - cuts[-1] == 1:
        cuts.pop()
    return np.split(order, cuts) if len(order) else []


def _at_least_one(batch: int) -> int:
    if batch < 1:
        raise BadRecipe(f"batch is {batch}; give a whole number from 1 on")
    return batch


def _not_negative(n: int, name: str) -> int:
    if n < 0:
        raise BadRecipe(f"{name} is {n}; give 0 or a whole number above")
    return n
