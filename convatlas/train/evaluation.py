"""Counting right answers, image by image: the validation within a training, and `evaluate` for finished classifiers."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .. import classifier, units
from ..account import account
from ..data import BadFile, Data, Preprocess, Split, open_data
from ..data.loader import eval_batches
from ..data.parallel import cores
from ..errors import BadData, UsageError
from ..result import Accuracy, DataStamp, Result, command, now, this_machine, versions
from .device import name_of, out_of_memory
from .run import read_config

MOST_LOADERS, FEW_FILES = 8, 256


@dataclass(frozen=True)
class Counts:
    """What a network made of a split. Unreadable files are named, and are in no other figure."""

    correct: int
    top5_correct: int
    images: int
    loss: float  # summed cross entropy
    bad: tuple[BadFile, ...]

    @property
    def accuracy(self) -> Accuracy:
        return Accuracy(self.correct, self.top5_correct, self.images, len(self.bad))


@dataclass(frozen=True)
class View:
    """How the images of a split reach a network."""

    preprocess: Preprocess
    device: torch.device
    batch: int
    workers: int = 0
    classes: tuple[int, ...] | None = None  # the network's class for each of the data's; None: the same ones


def count(net: nn.Module, split: Split, view: View, after_batch: Callable[[], None] = lambda: None) -> Counts:
    """Runs a network in evaluation mode over a split. `after_batch` may raise to end it; the mode is put back.

    Where there are fewer than five classes every answer is among the first five. Raises BadData when no image can be
    read.
    """
    training = net.training
    net.eval()
    totals = torch.zeros(3, dtype=torch.float64 if view.device.type != "mps" else torch.float32, device=view.device)
    chosen = None if view.classes is None else torch.tensor(view.classes, device=view.device)
    images = 0
    bad: list[BadFile] = []
    try:
        with (
            torch.inference_mode(),
            _full_precision(),
            out_of_memory(view.device, f"evaluating with batch {view.batch}"),
        ):
            for batch in eval_batches(split, view.preprocess, batch=view.batch, workers=view.workers):
                bad += batch.bad
                if len(batch.labels):
                    images += len(batch.labels)
                    labels = batch.labels.to(view.device, non_blocking=True)
                    labels = labels if chosen is None else chosen[labels]
                    totals += figures(net(batch.images.to(view.device, non_blocking=True)), labels)
                after_batch()
    finally:
        net.train(training)
    if not images:
        first = f"; the first: {bad[0].path}: {bad[0].reason}" if bad else ""
        raise BadData(f"none of the {len(split)} images of the {split.name} split can be read{first}")
    correct, top5, loss = totals.tolist()
    return Counts(int(correct), int(top5), images, loss, tuple(sorted(bad, key=lambda b: b.path)))


def _full_precision() -> AbstractContextManager[None]:
    """Without TensorFloat-32, cuDNN's default, so that an answer is the one that a bundle of these weights gives."""
    return torch.backends.cudnn.flags(enabled=True, allow_tf32=False)


def loaders(split: Split, wanted: int | None) -> int:
    """Processes that decode a split's files: as asked, else all cores but one where there are files enough to pay."""
    if wanted is not None:
        return wanted
    if split.stored is None or len(split) < FEW_FILES:
        return 0
    return min(max(cores() - 1, 1), MOST_LOADERS)


def figures(logits: Tensor, labels: Tensor) -> Tensor:
    """Right answers, right among the first five, and the summed cross entropy. (N,classes), (N,) -> (3,)"""
    answers = logits.topk(min(5, logits.shape[1])).indices == labels[:, None]
    loss = nn.functional.cross_entropy(logits.float(), labels, reduction="sum")
    return torch.stack((answers[:, 0].sum(), answers.sum(), loss))


def evaluate(
    source: str | Path,
    data: str | Path,
    *,
    split: str = "test",
    device: str = "auto",
    batch: int = 64,
    workers: int | None = None,
) -> Result:
    """Counts the images of a split that a run folder's best checkpoint or a bundle gets right.

    Labels are matched by name. Of a run folder's own data the split is the one that its training used. Raises
    UsageError for a split that the data has not, BadData for a class that the classifier does not know.
    """
    if batch < 1:
        raise UsageError(f"batch is {batch}; a batch has at least 1 image")
    place = classifier.pick_device(device)
    found = classifier.load(source, str(place))
    run = Path(source) / "config.json" if (Path(source) / "checkpoints").is_dir() else None
    opened = _open(data, run)
    if split not in opened.splits:
        known = ", ".join(opened.splits)
        raise UsageError(f"{opened.source} has no {split} split; it has {known}; choose one with --split")
    classes = by_name(opened, found.spec.classes, str(source))
    chosen = opened.splits[split]
    counts = count(found.net, chosen, View(found.spec.preprocess, place, batch, loaders(chosen, workers), classes))
    totals = account(found.net, found.spec.input, name=found.spec.network).totals
    return Result(
        kind="evaluation",
        network=found.spec.network,
        input=found.spec.input,
        classes=len(found.spec.classes),
        params=totals.params,
        macs=totals.macs,
        machine=this_machine(name_of(place), torch.get_num_threads()),
        versions=versions(),
        when=now(),
        command=command(),
        method=f"each image of the {split} split once, one centre view, labels matched by name",
        weights_bytes=found.weights_bytes,
        data=DataStamp(opened.name, split, len(chosen), chosen.digest()),
        accuracy=counts.accuracy,
    )


def _open(data: str | Path, config: Path | None) -> Data:
    if config is None:
        return open_data(data)
    return open_data(data, validation=read_config(config.parent).recipe.validation)


def by_name(data: Data, classes: Sequence[str], source: str) -> tuple[int, ...]:
    """The classifier's index of each of the data's classes. Raises BadData for names that it does not know."""
    unknown = [c for c in data.classes if c not in classes]
    if unknown:
        some = ", ".join(repr(c) for c in unknown[:5]) + (f" and {len(unknown) - 5} more" if len(unknown) > 5 else "")
        raise BadData(
            f"{data.source} has the class{'es' if len(unknown) > 1 else ''} {some}, which {source} does not know; "
            f"it knows {', '.join(map(repr, classes[:10]))}{' ...' if len(classes) > 10 else ''}"
        )
    index = {name: i for i, name in enumerate(classes)}
    return tuple(index[c] for c in data.classes)


def summary(result: Result) -> str:
    """A result of a training or an evaluation in a few lines of text."""
    lines = []
    data, accuracy = result.data, result.accuracy
    if data is not None and accuracy is not None:
        low, high = accuracy.interval
        lines.append(f"{result.network} on {data.name}, {data.split} split")
        lines.append(f"  top-1  {units.of(accuracy.correct, accuracy.images)}, 95 % interval {_points(low, high)}")
        if result.classes > 5:
            lines.append(f"  top-5  {units.of(accuracy.top5_correct, accuracy.images)}")
        if accuracy.unreadable:
            lines.append(f"  not in these figures: {units.exact(accuracy.unreadable)} that could not be read")
    else:
        lines.append(f"{result.network}: not evaluated, the data has neither a test nor a validation split")
    lines.append(
        f"  {units.exact(result.params)} parameters, {units.exact(result.macs)} MACs an image, "
        f"{units.size(result.weights_bytes)} of weights"
    )
    if result.kind == "training":
        epochs = f"{result.epochs:.4g} epoch{'s' * (result.epochs != 1)}"
        lines.append(f"  {epochs} of recipe {result.recipe} in {units.seconds(result.seconds)}")
    return "\n".join(lines)


def _points(low: float, high: float) -> str:
    return f"{100 * low:.1f} to {units.percent(high)}"
