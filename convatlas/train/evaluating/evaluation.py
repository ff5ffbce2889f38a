"""`evaluate`: what finished classifiers get right of a split, alone and together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypedDict, Unpack, overload

import numpy as np
import torch

from ... import classifier, files, units
from ...account import account
from ...classifier import Classifier
from ...data import Data, Split, open_data, views
from ...errors import BadData, UsageError
from ...result import DataStamp, Result, command, now, this_machine, versions
from ..device import name_of
from ..processes import Processes, joined, own_device, speaks
from ..run import read_config
from . import ensemble
from .answers import Answers, Counts, answers_csv, judged, merged
from .counting import Part, View, count, loaders
from .ensemble import Ensemble

__all__ = ["Counts", "Examined", "View", "count", "evaluate", "examine", "loaders", "merged", "summary"]

Source = str | Path


@dataclass(frozen=True)
class Examined:
    """An evaluation with its answers; of an ensemble they are the ensemble's."""

    found: Result | Ensemble
    counts: Counts
    split: Split
    classes: tuple[str, ...]  # that the answers number


@dataclass(frozen=True)
class _Way:
    """What all members of an evaluation share."""

    data: Source
    split: str
    device: torch.device
    batch: int
    workers: int | None
    view: str
    processes: Processes
    opened: dict[tuple[float, tuple[int, int] | None], Data] = field(default_factory=dict)


class Options(TypedDict, total=False):
    """How to evaluate."""

    split: str  # "test" where it is not given
    device: str  # "auto"
    batch: int  # 64
    workers: int | None  # None: as many as pay
    view: str | None  # None: the centre


@overload
def evaluate(source: Source, data: Source, *, answers: Path | None = None, **options: Unpack[Options]) -> Result: ...
@overload
def evaluate(
    source: Sequence[Source], data: Source, *, answers: Path | None = None, **options: Unpack[Options]
) -> Result | Ensemble: ...
def evaluate(
    source: Source | Sequence[Source], data: Source, *, answers: Path | None = None, **options: Unpack[Options]
) -> Result | Ensemble:
    """Counts the images of a split that a run folder's best checkpoint or a bundle gets right; of several, an ensemble.

    Labels are matched by name. Of a run folder's own data the split is the one that its training used. `view` is one of
    data.views.KNOWN, None is the centre. `answers` names a CSV file for what each image was answered. Processes that
    torchrun started share the images, and each gives the result of all. Raises UsageError for a split that the data has
    not, a view that the network has not, or members of other classes; BadData for a class that the classifier does not
    know; RunFailed where another process is lost.
    """
    sources = [source] if isinstance(source, str | Path) else list(source)
    done = examine(sources, data, **options)
    if answers is not None and speaks():
        files.write(Path(answers), answers_csv(done.counts.answers, done.split, done.classes))
    return done.found


def examine(
    sources: Sequence[Source],
    data: Source,
    *,
    split: str = "test",
    device: str = "auto",
    batch: int = 64,
    workers: int | None = None,
    view: str | None = None,
) -> Examined:
    """As `evaluate`, with the answers."""
    if batch < 1:
        raise UsageError(f"batch is {batch}; a batch has at least 1 image")
    if not sources:
        raise UsageError("no classifier to evaluate; give a run folder or a bundle, or several")
    views.parse(view or "center")
    place = own_device(classifier.pick_device(device))
    with joined(place) as processes:
        way = _Way(data, split, place, batch, workers, view or "center", processes)
        if len(sources) == 1:
            return _alone(sources[0], way)
        return _together([str(s) for s in sources], way)


def _alone(source: Source, way: _Way, keep: Callable[[Part], None] = lambda part: None) -> Examined:
    found = classifier.load(source, str(way.device))
    opened = _opened(way, source)
    if way.split not in opened.splits:
        known = ", ".join(opened.splits)
        raise UsageError(f"{opened.source} has no {way.split} split; it has {known}; choose one with --split")
    chosen = opened.splits[way.split]
    classes = by_name(opened, found.spec.classes, str(source))
    workers = loaders(chosen, way.workers)
    share = way.processes.share
    view = View(found.spec.preprocess, way.device, way.batch, workers, classes, share, way.view)
    way.processes.at(f"evaluating {source}")
    own = count(found.net, chosen, view, keep=keep)
    counts = merged(way.processes.gathered(own)) if way.processes.of > 1 else own
    return Examined(_result(found, opened, chosen, counts, way), counts, chosen, found.spec.classes)


def _together(sources: list[str], way: _Way) -> Examined:
    """Each alone, and the mean of their probabilities over the images that all could read."""
    spec_classes = [classifier.load(source).spec.classes for source in sources]
    ensemble.refuse_other_classes(sources, spec_classes)
    first = spec_classes[0]
    rank, of = way.processes.share
    members: list[Examined] = []
    total: np.ndarray | None = None  # of this process's images, which are every of-th one
    for source, known in zip(sources, spec_classes, strict=True):
        columns = ensemble.same_order(known, first)
        parts: list[Part] = []

        def keep(part: Part, parts: list[Part] = parts, columns: list[int] = columns) -> None:
            chances = torch.softmax(part.logits.float(), dim=1)[:, columns]
            parts.append(part._replace(logits=chances.cpu()))

        members.append(_alone(source, way, keep))
        if total is None:
            total = np.zeros((len(range(rank, len(members[0].split), of)), len(first)), np.float32)
        ensemble.refuse_other_images(sources[: len(members)], [_stamp(m) for m in members])
        for part in parts:
            total[part.numbers // of] += part.logits.numpy()
    assert total is not None
    return _ensemble(sources, members, total / len(members), way)


def _stamp(member: Examined) -> DataStamp | None:
    return member.found.data


def _ensemble(sources: list[str], members: list[Examined], means: np.ndarray, way: _Way) -> Examined:
    rows = ensemble.common([m.counts.answers for m in members])
    tables = [m.counts.answers.take(row) for m, row in zip(members, rows, strict=True)]
    bad = {b.path: b for m in members for b in m.counts.bad}
    # The first member's classes number the probabilities' columns, and so the labels.
    counts = replace(_judged(tables[0], means, way.processes), bad=tuple(bad[path] for path in sorted(bad)))
    gain, paired = ensemble.compared(counts.answers, tables)
    right = [int(t.right.sum()) for t in tables]
    results = tuple(m.found for m in members if isinstance(m.found, Result))
    stamp = _stamp(members[0])
    assert stamp is not None
    found = Ensemble(
        sources=tuple(sources),
        members=results,
        accuracy=counts.accuracy(way.view),
        data=stamp,
        mean_top1=sum(right) / len(right) / counts.images,
        gain=gain,
        best=right.index(max(right)),
        paired=paired,
        calibration_errors=tuple(t.calibration_error for t in (*tables, counts.answers)),
    )
    return Examined(found, counts, members[0].split, members[0].classes)


def _judged(first: Answers, means: np.ndarray, processes: Processes) -> Counts:
    """What the mean probabilities answer to the images of a member's table; `means` are those of this share."""
    rank, of = processes.share
    mine = first.take(first.numbers % of == rank)
    logs = torch.from_numpy(means[mine.numbers // of]).clamp_min(1e-38).log()
    columns = [column.numpy() for column in judged(logs, torch.from_numpy(mine.labels))]
    return merged(processes.gathered(Counts(Answers(mine.numbers, mine.labels, *columns))))


def _result(found: Classifier, opened: Data, split: Split, counts: Counts, way: _Way) -> Result:
    totals = account(found.net, found.spec.input, name=found.spec.network).totals
    return Result(
        kind="evaluation",
        network=found.spec.network,
        input=found.spec.input,
        classes=len(found.spec.classes),
        params=totals.params,
        macs=totals.macs,
        machine=this_machine(name_of(way.device), torch.get_num_threads()),
        versions=versions(),
        when=now(),
        command=command(),
        method=f"each image of the {split.name} split once, {in_words(way.view)}, labels matched by name",
        weights_bytes=found.weights_bytes,
        data=DataStamp(opened.name, split.name, len(split), split.digest()),
        accuracy=counts.accuracy(way.view),
    )


def in_words(view: str) -> str:
    """A test view as a result's method has it."""
    return "one centre view" if view == "center" else f"view {view} with probabilities averaged"


def _opened(way: _Way, source: Source) -> Data:
    """The data, divided as the training of a run folder had it; opened once for all that divide it alike."""
    validation, fold = 0.1, None
    if (Path(source) / "checkpoints").is_dir():
        config = read_config(Path(source))
        validation, fold = config.recipe.validation, config.data.fold
    if (validation, fold) not in way.opened:
        some: dict[str, Any] = {} if fold is None else {"fold": fold}
        way.opened[validation, fold] = open_data(way.data, validation=validation, **some)
    return way.opened[validation, fold]


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
        view = "" if accuracy.view == "center" else f", view {accuracy.view}"
        lines.append(f"{result.network} on {data.name}, {data.split} split{view}")
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
