"""A network over the images of a split, in one of the test views, with what it answered to each."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from math import log
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ...data import BadFile, Preprocess, Split, views
from ...data.checking import bad_file
from ...data.loader import eval_batches
from ...data.parallel import cores
from ...data.views import Pictures, Scales, TenCrop
from ...errors import BadData, BadImage
from ..device import out_of_memory
from .answers import Answers, Counts, Judged, first_of, judged
from .dense import dense

MOST_LOADERS, FEW_FILES = 8, 256


@dataclass(frozen=True)
class View:
    """How the images of a split reach a network."""

    preprocess: Preprocess
    device: torch.device
    batch: int
    workers: int = 0
    classes: tuple[int, ...] | None = None  # the network's class for each of the data's; None: the same ones
    share: tuple[int, int] = (0, 1)  # (rank, of): every of-th image of the split from number `rank` on
    view: str = "center"  # data.views.KNOWN names the others


class Part(NamedTuple):
    """What came out for some images of a split."""

    numbers: np.ndarray  # int64 (N,)
    logits: Tensor  # (N,classes); of several pictures an image, the logarithm of their mean probabilities
    bad: tuple[BadFile, ...]


def count(
    net: nn.Module,
    split: Split,
    view: View,
    after_batch: Callable[[], None] = lambda: None,
    keep: Callable[[Part], None] = lambda part: None,
) -> Counts:
    """Runs a network in evaluation mode over a split. `after_batch` may raise to end it; the mode is put back.

    Where there are fewer than five classes every answer is among the first five. `keep` sees all that comes out. Raises
    BadData when no image can be read, but not for a share of the split, which `merged` does. Raises UsageError where
    the network has no such view.
    """
    training = net.training
    net.eval()
    classes = None if view.classes is None else np.array(view.classes, np.int64)
    numbers: list[np.ndarray] = []
    found: list[Judged] = []
    bad: list[BadFile] = []
    try:
        with (
            torch.inference_mode(),
            _full_precision(),
            out_of_memory(view.device, f"evaluating with batch {view.batch}"),
        ):
            for part in _parts(net, split, view):
                bad += part.bad
                if len(part.numbers):
                    labels = split.labels[part.numbers]
                    labels = labels if classes is None else classes[labels]
                    numbers.append(part.numbers)
                    found.append(judged(part.logits, torch.from_numpy(labels).to(view.device, non_blocking=True)))
                    keep(part)
                after_batch()
    finally:
        net.train(training)
    bad.sort(key=lambda b: b.path)
    if not numbers and view.share[1] == 1:
        raise BadData(f"none of the {len(split)} images of the {split.name} split can be read{first_of(bad)}")
    return Counts(_table(numbers, found, split, classes), tuple(bad))


def _table(numbers: list[np.ndarray], found: list[Judged], split: Split, classes: np.ndarray | None) -> Answers:
    order = np.concatenate(numbers) if numbers else np.empty(0, np.int64)
    labels = split.labels[order]
    columns = [torch.cat(column).cpu().numpy() for column in zip(*found, strict=True)]
    if not found:
        columns = [np.empty(0, kind) for kind in (np.int64, np.bool_, np.float32, np.float32, np.float32)]
    return Answers(order, labels if classes is None else classes[labels], *columns)


# ---- What comes out --------------------------------------------------------------------------------------------------


def _parts(net: nn.Module, split: Split, view: View) -> Iterator[Part]:
    way = views.parse(view.view)
    if way is None:
        return _by_center(net, split, view)
    return _by_view(_viewed(net, view.preprocess, way), split, view, way)


def refuse_view(net: nn.Module, preprocess: Preprocess, view: str) -> None:
    """Raises UsageError for a test view that does not exist or that the network has not; before a training, say."""
    training = net.training
    try:
        _viewed(net.eval(), preprocess, views.parse(view))
    finally:
        net.train(training)


def _viewed(net: nn.Module, preprocess: Preprocess, way: TenCrop | Scales | None) -> nn.Module:
    input = preprocess.channels, preprocess.height, preprocess.width
    return dense(net, input) if isinstance(way, Scales) else net


def _by_center(net: nn.Module, split: Split, view: View) -> Iterator[Part]:
    """One picture an image, the one that `predict` makes of it."""
    numbers = np.arange(view.share[0], len(split), view.share[1])
    some: dict[str, Any] = {} if view.share == (0, 1) else {"share": view.share}
    if not len(numbers):
        return
    try:
        for batch in eval_batches(split, view.preprocess, batch=view.batch, workers=view.workers, **some):
            start = batch.position * view.batch
            portion = numbers[start : start + view.batch]
            spoiled = {b.path for b in batch.bad}
            if spoiled:
                portion = np.array([n for n in portion.tolist() if split.named(n) not in spoiled], np.int64)
            if len(portion) != len(batch.labels):
                raise RuntimeError(f"{len(batch.labels)} images came for the {len(portion)} that are good")
            yield Part(portion, net(batch.images.to(view.device, non_blocking=True)), batch.bad)
    except BadData:
        if view.share[1] == 1:
            raise
        # A share may hold nothing but bad files; the others count on.
        yield Part(np.empty(0, np.int64), torch.empty(0), _unreadable(split, numbers, view.preprocess.channels))


def _unreadable(split: Split, numbers: np.ndarray, channels: int) -> tuple[BadFile, ...]:
    found = []
    for number in numbers.tolist():
        try:
            split.picture(number, channels)
        except BadImage as error:
            found.append(bad_file(split.named(number), error))
    return tuple(found)


def _by_view(model: nn.Module, split: Split, view: View, way: TenCrop | Scales) -> Iterator[Part]:
    numbers = range(view.share[0], len(split), view.share[1])
    items = views.read(split, view.preprocess, way, numbers, view.workers)
    while some := list(islice(items, view.batch)):
        good = [item for item in some if isinstance(item, Pictures)]
        bad = tuple(item for item in some if isinstance(item, BadFile))
        logits = _averaged(model, good, view) if good else torch.empty(0)
        yield Part(np.array([item.number for item in good], np.int64), logits, bad)


def _averaged(model: nn.Module, items: list[Pictures], view: View) -> Tensor:
    """The logarithm of the mean of the probabilities over each image's pictures. (N,classes)"""
    p = view.preprocess
    pictures = [array for item in items for array in item.arrays]
    shapes: dict[tuple[int, ...], list[int]] = {}
    for place, array in enumerate(pictures):
        shapes.setdefault(array.shape, []).append(place)
    order: list[int] = []
    logs: list[Tensor] = []
    for (height, width, _), places in shapes.items():
        most = max(1, view.batch * p.height * p.width // (height * width))  # the memory of a batch of `center`
        for start in range(0, len(places), most):
            some = places[start : start + most]
            images = torch.from_numpy(p.normalise(np.stack([pictures[i] for i in some])))
            logs.append(torch.log_softmax(model(images.to(view.device)).float(), dim=1))
            order += some
    rows = torch.cat(logs)[torch.tensor(np.argsort(order), device=view.device)]
    each = len(items[0].arrays)
    return rows.unflatten(0, (len(items), each)).logsumexp(dim=1) - log(each)


def _full_precision() -> AbstractContextManager[None]:
    """Without TensorFloat-32, cuDNN's default, so that an answer is the one that a bundle of these weights gives."""
    return torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False)


def loaders(split: Split, wanted: int | None) -> int:
    """Processes that decode a split's files: as asked, else all cores but one where there are files enough to pay."""
    if wanted is not None:
        return wanted
    if split.stored is None or len(split) < FEW_FILES:
        return 0
    return min(max(cores() - 1, 1), MOST_LOADERS)
