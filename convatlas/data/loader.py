"""Batches for training and evaluation; the same for any number of workers, any start, any batch size and any share."""

import signal
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ..errors import BadData, BadImage, BadRecipe, ConvAtlasError, RunFailed
from . import augment as augmentation
from . import draws
from .checking import bad_file
from .decoding import BadFile, printable
from .moments import Colours
from .preprocess import Preprocess
from .sets import Split

Share = tuple[int, int]  # which process this is, from 0, and of how many


class Batch(NamedTuple):
    """images float32 (N,C,H,W), channels_last where C is 3; labels int64 (N,); `position` counts from 0 in the epoch.

    Files that cannot be decoded are left out and listed in `bad`, never replaced. `whole` is the number of images that
    the batch was meant to have, over all shares and with bad ones.
    """

    images: Tensor
    labels: Tensor
    bad: tuple[BadFile, ...] = ()
    position: int = 0
    whole: int = 0


class _Raw(NamedTuple):
    images: Tensor  # uint8 (N,H,W,C)
    labels: Tensor
    bad: tuple[BadFile, ...]
    position: int
    whole: int


class _Item(NamedTuple):
    position: int
    numbers: np.ndarray  # of the images
    draws: np.ndarray  # what augmentation follows from: the same, or an image drawn again would be changed the same
    whole: int


def steps(images: int, batch: int) -> int:
    """Batches of an epoch. A last batch of one image joins the one before: batch norm cannot learn from one image."""
    full, rest = divmod(images, _at_least_one(batch))
    return full + (rest > 1 or (rest == 1 and (full == 0 or batch == 1)))


@dataclass(frozen=True, eq=False)
class Feed:
    """The batches that a training sees, epoch by epoch.

    The order follows from (seed, epoch), an image's augmentation from (seed, epoch, its number). `augment` are names
    (`augment.KNOWN`); where one of them is "pca-colour", `colours` must be given. `workers` processes decode files;
    sets in memory need none. `balanced`: as many images as the split has are drawn with replacement each epoch, every
    class equally likely, and an image drawn twice is augmented in two ways. `share` (rank, of) is for several
    processes: each batch is cut into `of` parts that follow each other, and this one takes part `rank`, from 0. Raises
    BadRecipe.
    """

    split: Split
    preprocess: Preprocess
    augment: Sequence[str]
    batch: int = field(kw_only=True)
    seed: int = field(kw_only=True)
    workers: int = field(default=0, kw_only=True)
    colours: Colours | None = field(default=None, kw_only=True)
    balanced: bool = field(default=False, kw_only=True)
    share: Share = field(default=(0, 1), kw_only=True)
    plan: augmentation.Plan = field(init=False, repr=False)

    def __post_init__(self) -> None:
        plan = augmentation.parse(self.augment)
        if plan.needs_colours:
            if self.colours is None:
                raise BadRecipe("pca-colour adds the training pixels' principal components; give colours=colours(...)")
            plan = plan.with_colours(self.colours)
        object.__setattr__(self, "plan", plan)
        _at_least_one(self.batch)
        _not_negative(self.workers, "workers")
        _checked(self.share)

    @property
    def steps(self) -> int:
        """Batches of an epoch."""
        return steps(len(self.split), self.batch)

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, counted from 0, from number `start` on; those before are not decoded.

        The last batch may be smaller; a single left-over image joins the batch before it. A batch of nothing but bad
        files is passed over: its files are listed with the next batch, and `position` shows the gap. Where there are
        several shares it is not, since the others wait: it has no images. Raises BadData for a split of which no image
        can be decoded, of a single share.
        """
        _not_negative(start, "start")
        pictures = _Pictures(self.split, self.preprocess, self.plan, self.seed, epoch)
        return _batches(pictures, self._items(epoch, start), min(self.workers, self.steps - start), self.share[1] > 1)

    def _items(self, epoch: int, start: int) -> Iterator[_Item]:
        """What each batch of this share holds, one at a time: a list of 10^9 numbers would not be wanted."""
        images, steps = len(self.split), self.steps
        stream = draws.key(self.seed, epoch, draws.ORDER)
        order = draws.Balanced(stream, self.split.labels) if self.balanced else self.split.order(stream)
        rank, of = self.share
        for position in range(start, steps):
            first, end = position * self.batch, images if position + 1 == steps else (position + 1) * self.batch
            lot = np.array_split(np.arange(first, end), of)[rank]
            begin, stop = (int(lot[0]), int(lot[-1]) + 1) if len(lot) else (first, first)
            numbers = draws.part(order, begin, stop)
            yield _Item(position, numbers, lot if self.balanced else numbers, end - first)


def eval_batches(
    split: Split, preprocess: Preprocess, *, batch: int, workers: int = 0, share: Share = (0, 1)
) -> Iterator[Batch]:
    """Every image once, in the split's order, through `preprocess.array`; the last batch may hold a single image.

    `share` (rank, of) takes positions rank, rank + of, ... Bad files and errors as in `Feed.batches`.
    """
    rank, of = _checked(share)
    _at_least_one(batch)
    pictures = _Pictures(split, preprocess, augmentation.parse(()), 0, 0)
    starts = range(rank, len(split), batch * of)

    def items() -> Iterator[_Item]:
        for position, first in enumerate(starts):
            numbers = np.arange(first, min(first + batch * of, len(split)), of)
            yield _Item(position, numbers, numbers, len(numbers))

    return _batches(pictures, items(), min(_not_negative(workers, "workers"), len(starts)), of > 1)


class _Pictures(Dataset[Any]):
    """What a batch holds -> one batch of uint8; a whole batch is one item, so that a worker collates it."""

    def __init__(self, split: Split, preprocess: Preprocess, plan: augmentation.Plan, seed: int, epoch: int):
        self.split, self.preprocess, self.plan = split, preprocess, plan
        self.seed, self.epoch = seed, epoch
        self.whole = plan.part is None and split.fits(preprocess)

    def __getitem__(self, item: _Item) -> _Raw:
        bad: list[BadFile] = []
        numbers, drawn = item.numbers, item.draws
        if self.whole:
            images = self.split.prepared(self.preprocess)[numbers]
        else:
            images, good = self._read(numbers, drawn, bad)
            numbers, drawn = numbers[good], drawn[good]
        if len(numbers):
            for change in self.plan.changes:
                images = change.apply(images, self.seed, self.epoch, drawn)
        labels = torch.from_numpy(self.split.labels[numbers])
        return _Raw(torch.from_numpy(images), labels, tuple(bad), item.position, item.whole)

    def _read(self, numbers: np.ndarray, drawn: np.ndarray, bad: list[BadFile]) -> tuple[np.ndarray, np.ndarray]:
        """The images that can be decoded, and where they stand among `numbers`."""
        p = self.preprocess
        images = np.empty((len(numbers), p.height, p.width, p.channels), np.uint8)
        random = None if self.plan.part is None else self.plan.part.draws(self.seed, self.epoch, drawn)
        good: list[int] = []
        for i, number in enumerate(numbers.tolist()):
            try:
                images[len(good)] = self._one(number, None if random is None else random[i])
            except BadImage as error:
                bad.append(bad_file(self.split.named(number), error))
            else:
                good.append(i)
        return images[: len(good)], np.array(good, np.int64)

    def _one(self, number: int, random: np.ndarray | None) -> np.ndarray:
        p, part = self.preprocess, self.plan.part
        size = p.height, p.width
        if part is None or random is None:
            return p.array(self.split.picture(number, p.channels))
        cut = self.split.cut(number, p.channels, lambda width, height: part.box(random, (width, height), size), size)
        return augmentation.resized(cut, size)


def _batches(pictures: _Pictures, items: Iterable[_Item], workers: int, shared: bool) -> Iterator[Batch]:
    """Holds one batch back, so that bad files at the end of an epoch always find a batch to be listed with."""
    scale, shift = (torch.from_numpy(a).repeat(pictures.preprocess.width) for a in pictures.preprocess.affine)
    bad: tuple[BadFile, ...] = ()
    held: Batch | None = None
    source = (
        _in_workers(pictures, items, workers)
        if workers > 0 and not pictures.whole
        else map(pictures.__getitem__, items)
    )
    for raw in source:
        if shared or pictures.whole:  # every share has every batch, and in memory nothing can be bad
            yield _normalised(raw, scale, shift)
            continue
        if not len(raw.labels):
            bad += raw.bad
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
    return Batch(images if images.shape[1] == 3 else images.contiguous(), raw.labels, raw.bad, raw.position, raw.whole)


class _Failed(NamedTuple):
    """An error of ours on its way from a loader process; torch would wrap it in its traceback's many lines."""

    kind: type[ConvAtlasError]
    text: str

    def again(self) -> ConvAtlasError:
        try:
            return self.kind(self.text)
        except TypeError:  # it is made from something else than its text
            error = self.kind.__new__(self.kind)
            error.args = (self.text,)
            return error


class _Sending(Dataset[Any]):
    """What loader processes run: pictures, or what they failed for."""

    def __init__(self, pictures: _Pictures):
        self.pictures = pictures

    def __getitem__(self, item: _Item) -> _Raw | _Failed:
        try:
            return self.pictures[item]
        except ConvAtlasError as error:
            return _Failed(type(error), str(error))


def _in_workers(pictures: _Pictures, items: Iterable[_Item], workers: int) -> Iterator[_Raw]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "This DataLoader will create")  # more workers than cores is the user's choice
        loader: DataLoader[Any] = DataLoader(
            _Sending(pictures),
            batch_size=None,
            sampler=items,
            num_workers=workers,
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
        for made in batches:
            if isinstance(made, _Failed):
                raise made.again()
            yield made
    except RuntimeError as error:
        if isinstance(error, ConvAtlasError) or "DataLoader worker" not in str(error):
            raise
        raise RunFailed(
            f"a loading process ended unexpectedly ({' '.join(str(error).split())[:120]}); try fewer workers, or 0"
        ) from error
    finally:
        del batches  # ends the processes now, however long a traceback with this frame is kept


def _as_it_is(raw: Any) -> Any:
    return raw


def _undisturbed(_: int) -> None:
    """Ctrl-C and SIGTERM reach the whole process group; the main process decides, and ends its workers itself."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _at_least_one(batch: int) -> int:
    if batch < 1:
        raise BadRecipe(f"batch is {batch}; give a whole number from 1 on")
    return batch


def _not_negative(n: int, name: str) -> int:
    if n < 0:
        raise BadRecipe(f"{name} is {n}; give 0 or a whole number above")
    return n


def _checked(share: Share) -> Share:
    rank, of = share
    if not 0 <= rank < of:
        raise BadRecipe(f"share is {share}; give (rank, of) with 0 <= rank < of")
    return share
