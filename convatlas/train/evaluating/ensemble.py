"""Several classifiers that answer together by the mean of their probabilities, beside each alone on the same images."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np

from ... import layout, paired, units
from ...errors import BadData, UsageError
from ...result import Z95, Accuracy, DataStamp, Result
from .answers import Answers

METHOD = (
    "the mean of the members' probabilities (softmax), classes matched by name; each with its own input size and "
    "preprocessing, all on the same images"
)


@dataclass(frozen=True)
class Paired:
    """The ensemble against one member on the same images: McNemar's exact test, two-sided (McNemar 1947)."""

    won: int  # images that the ensemble alone answered right
    lost: int  # images that the member alone answered right
    p: float


@dataclass(frozen=True)
class Gain:
    """The ensemble's share right minus the mean of its members', with the 95 % interval of paired differences.

    The difference is taken on each image and the interval is the normal one of their mean, so nothing is drawn.
    """

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Ensemble:
    """What `evaluate` gives for several classifiers."""

    sources: tuple[str, ...]
    members: tuple[Result, ...]
    accuracy: Accuracy  # of the mean of the probabilities
    data: DataStamp
    mean_top1: float  # of the members
    gain: Gain
    best: int  # the member with most right answers; the first of equals
    paired: tuple[Paired, ...]  # against each member
    calibration_errors: tuple[float, ...]  # of each member, and last of the ensemble
    method: str = METHOD

    @property
    def against_best(self) -> Paired:
        return self.paired[self.best]


def compared(ensemble: Answers, members: Sequence[Answers]) -> tuple[Gain, tuple[Paired, ...]]:
    """All on the same images, in the same order."""
    together = ensemble.right
    alone = [m.right for m in members]
    return gain(together, np.stack(alone)), tuple(mcnemar(together, right) for right in alone)


def mcnemar(together: np.ndarray, alone: np.ndarray) -> Paired:
    """Right or wrong by two classifiers, bool (N,) each; the p value is the binomial's, exact."""
    won, lost = int((together & ~alone).sum()), int((alone & ~together).sum())
    return Paired(won, lost, paired.mcnemar(won, lost))


def gain(together: np.ndarray, alone: np.ndarray) -> Gain:
    """bool (N,) and (members,N)."""
    differences = together - alone.mean(axis=0)
    n = len(differences)
    mean = float(differences.mean())
    spread = float(differences.std(ddof=1)) if n > 1 else 0.0
    half = Z95 * spread / sqrt(n)
    return Gain(mean, mean - half, mean + half)


def refuse_other_classes(sources: Sequence[str], classes: Sequence[Sequence[str]]) -> None:
    """Raises UsageError where a member does not know the same classes as the first one, in whatever order."""
    first = set(classes[0])
    for source, names in zip(sources[1:], classes[1:], strict=True):
        missing, more = sorted(first - set(names)), sorted(set(names) - first)
        if missing or more:
            name, verb = (missing[0], "does not know") if missing else (more[0], "alone knows")
            raise UsageError(
                f"{source} {verb} the class {name!r} of {len(first | set(names))}, so its probabilities cannot be "
                f"averaged with {sources[0]}'s; give classifiers of the same classes"
            )


def same_order(known: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Where each of the wanted classes stands among a member's own."""
    index = {name: i for i, name in enumerate(known)}
    return [index[name] for name in wanted]


def refuse_other_images(sources: Sequence[str], stamps: Sequence[DataStamp | None]) -> None:
    """Raises UsageError where two members' splits are not the same images."""
    for source, stamp in zip(sources[1:], stamps[1:], strict=True):
        if stamp is None or stamps[0] is None or stamp.digest != stamps[0].digest:
            raise UsageError(
                f"{source} was trained with another division of the data than {sources[0]}, so this split has other "
                "images; evaluate on a split that does not depend on it, such as --split test"
            )


def common(tables: Sequence[Answers]) -> list[np.ndarray]:
    """Each member's rows of the images that all of them could read. Raises BadData where there is none."""
    numbers = tables[0].numbers
    for table in tables[1:]:
        numbers = np.intersect1d(numbers, table.numbers)
    if not len(numbers):
        raise BadData("no image can be read by all of the classifiers")
    return [np.flatnonzero(np.isin(table.numbers, numbers)) for table in tables]


# ---- As text ---------------------------------------------------------------------------------------------------------


def text(found: Ensemble) -> str:
    """The members, their mean and the ensemble in a table, and what the comparison says."""
    columns = [layout.Column("classifier"), layout.Column("network"), layout.Column("top-1", True)]
    columns += [layout.Column("95 % interval", True), layout.Column("calibration error", True)]
    rows: list[list[layout.Cell]] = []
    for source, member, error in zip(found.sources, found.members, found.calibration_errors, strict=False):
        if member.accuracy is not None:
            rows.append([source, member.network, *_figures(member.accuracy, error)])
    rows.append(["mean of the single ones", "", units.percent(found.mean_top1), "", ""])
    together: list[layout.Cell] = [
        f"ensemble of {len(found.members)}",
        "",
        *_figures(found.accuracy, found.calibration_errors[-1]),
    ]
    best, gain = found.against_best, found.gain
    lines = [
        f"{found.data.name}, {found.data.split} split, view {found.accuracy.view}",
        layout.text(columns, rows, together),
        "",
        f"Against the mean of the single ones: {_points(gain.mean)} points, 95 % interval {_points(gain.low)} to "
        f"{_points(gain.high)} (paired differences).",
        f"Against the best single one, {found.sources[found.best]}: {units.exact(best.won)} images won, "
        f"{units.exact(best.lost)} lost, McNemar's exact p = {best.p:.2g}.",
    ]
    if found.accuracy.unreadable:
        lines.append(f"Not in these figures: {units.exact(found.accuracy.unreadable)} that could not be read.")
    return "\n".join(lines)


def _figures(accuracy: Accuracy, error: float) -> list[layout.Cell]:
    low, high = accuracy.interval
    return [
        units.of(accuracy.correct, accuracy.images),
        f"{100 * low:.1f} to {units.percent(high)}",
        units.percent(error),
    ]


def _points(share: float) -> str:
    return f"{100 * share:+.2f}"
