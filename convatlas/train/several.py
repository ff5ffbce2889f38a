"""Several trainings of one recipe: with other seeds, or with each part of the images held out in turn."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path

from .. import units
from ..data import open_data
from ..errors import UsageError
from ..paper import Recipe
from ..result import Result, wilson
from . import run as folder
from .progress import say
from .training import Options, train

USUAL = Options()
# Two-sided 95 % quantiles of Student's t for 1, 2, ... degrees of freedom.
T95: tuple[float, ...] = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131),
    *(2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042),
)


@dataclass(frozen=True)
class Held:
    """Right answers on a fold's own validation images, which its training did not see."""

    last: folder.Validation  # after the last epoch
    best: folder.Validation  # after the epoch that these images chose, whose weights are kept


@dataclass(frozen=True)
class Several:
    """The run folders of several trainings, the result of each, and of folds what they held out."""

    runs: tuple[Path, ...]
    results: tuple[Result, ...]
    held: tuple[Held, ...] = ()

    def as_text(self) -> str:
        """Each run as k of N; the mean with its spread; of folds all validation images together, each once."""
        lines = []
        with_accuracy = [(run, r.accuracy) for run, r in zip(self.runs, self.results, strict=True) if r.accuracy]
        if with_accuracy:
            data = self.results[0].data
            assert data is not None
            caution = "" if data.split == "test" else ", which chose the epoch too"
            lines.append(f"{self.results[0].network} on {data.name}, {data.split} split{caution}")
            width = max(len(run.name) for run in self.runs)
            lines += [f"  {run.name:{width}}  {units.of(a.correct, a.images)}" for run, a in with_accuracy]
            if len(with_accuracy) > 1:
                lines.append(f"  {'mean':{width}}  {_mean([a.top1 for _, a in with_accuracy])}")
        if self.held:
            lines += ["", *_pooled(self.runs, self.held)]
        return "\n".join(lines)


def train_seeds(
    network: str,
    data: str | Path,
    out: Path,
    seeds: Sequence[int],
    *,
    recipe: Recipe | None = None,
    resume: bool = False,
    options: Options = USUAL,
) -> Several:
    """Trains a network once a seed, into OUT/seed-1 and so on; splits and recipe are the same for all.

    With `resume` finished runs are passed over and the stopped one goes on. Before any of them starts, UsageError is
    raised for no seed, for one given twice, and for a folder that is taken; otherwise raises as `train` does.
    """
    out, seeds = Path(out), tuple(seeds)
    if not seeds:
        raise UsageError("no seed given; write for example --seeds 1,2,3")
    twice = next((s for i, s in enumerate(seeds) if s in seeds[:i]), None)
    if twice is not None:
        raise UsageError(f"seed {twice} is given twice, and would give the same network twice; give different seeds")
    runs = tuple(out / f"seed-{seed}" for seed in seeds)
    _refuse_taken(out, runs, resume)
    results = []
    for number, (run, seed) in enumerate(zip(runs, seeds, strict=True), 1):
        say(f"seed {seed}, run {number} of {len(runs)}: {run}")
        results.append(train(network, data, run, recipe=recipe, seed=seed, resume=resume, options=options))
    return Several(runs, tuple(results))


def train_folds(
    network: str,
    data: str | Path,
    out: Path,
    folds: int,
    *,
    recipe: Recipe | None = None,
    seed: int | None = None,
    resume: bool = False,
    options: Options = USUAL,
) -> Several:
    """Trains a network once a fold, into OUT/fold-1of5 and so on, each validated on another part of the images.

    The parts are of the training and validation images together, class by class; a test split stays what it is. With
    `resume` as in `train_seeds`. Before any run starts, UsageError is raised for fewer than two folds, for more than
    the smallest class has images, and for a folder that is taken; otherwise raises as `train` does.
    """
    out = Path(out)
    if folds < 2:
        raise UsageError(f"folds is {folds}; give 2 or more, 5 and 10 are usual")
    runs = tuple(out / f"fold-{i}of{folds}" for i in range(1, folds + 1))
    _refuse_taken(out, runs, resume)
    _refuse_more_than_images(data, folds)
    results = []
    for number, run in enumerate(runs, 1):
        say(f"fold {number} of {folds}: {run}")
        fold = (number, folds)
        results.append(train(network, data, run, recipe=recipe, seed=seed, resume=resume, fold=fold, options=options))
    return Several(runs, tuple(results), tuple(map(held_out, runs)))


def held_out(run: Path) -> Held:
    """What the log of a finished run says of its validation images. Raises BadCheckpoint, UsageError without any."""
    counted = [epoch.validation for epoch in folder.read_log(run) if epoch.validation is not None]
    if not counted:
        raise UsageError(f"{run} was not validated, so there is nothing to add up; train it anew with --folds")
    return Held(counted[-1], max(counted, key=lambda v: (v.correct, -v.loss)))


def _refuse_taken(out: Path, runs: Sequence[Path], resume: bool) -> None:
    if folder.state_of(out) == "run":
        raise UsageError(f"{out} is a run folder itself; choose another --out, the runs are made inside it")
    for run in runs:
        folder.refuse_taken(run, resume)


def _refuse_more_than_images(data: str | Path, folds: int) -> None:
    opened = open_data(data)
    parts = [opened.splits[name].counts() for name in ("train", "validation") if name in opened.splits]
    each = {name: int(sum(c[i] for c in parts)) for i, name in enumerate(opened.classes)}
    name = min((n for n in each if each[n]), key=lambda n: each[n], default="")
    if name and each[name] < folds:
        raise UsageError(
            f"{folds} folds are more than the {each[name]} images of {name!r}, so some would validate without it; "
            f"give at most {each[name]} folds, or more images of it"
            if each[name] > 1
            else f"{name!r} has one image, which cannot be in training and in validation; give more images of it"
        )


# ---- Summaries -------------------------------------------------------------------------------------------------------


def _mean(shares: Sequence[float]) -> str:
    """The mean of accuracies, what it may be over other draws of the same kind, and the lowest and highest of them."""
    low, high = t_interval(shares)
    inside = f"{100 * max(low, 0.0):.1f} to {units.percent(min(high, 1.0))}"
    return (
        f"{units.percent(sum(shares) / len(shares))}, {100 * min(shares):.1f} to {units.percent(max(shares))}; "
        f"95 % t interval of the mean over {len(shares)} runs {inside}"
    )


def t_interval(values: Sequence[float]) -> tuple[float, float]:
    """Student's 95 % interval of a mean, from two values or more."""
    n = len(values)
    mean = sum(values) / n
    deviation = sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    half = T95[min(n - 2, len(T95) - 1)] * deviation / sqrt(n)
    return mean - half, mean + half


def _pooled(runs: Sequence[Path], held: Sequence[Held]) -> list[str]:
    width = max(len("together"), *(len(run.name) for run in runs))
    lines = ["each fold's validation images, after the last epoch"]
    lines += [
        f"  {run.name:{width}}  {units.of(h.last.correct, h.last.images)}" for run, h in zip(runs, held, strict=True)
    ]
    shares = [h.last.correct / h.last.images for h in held]
    k, n = sum(h.last.correct for h in held), sum(h.last.images for h in held)
    low, high = wilson(k, n)
    lines.append(f"  {'together':{width}}  {units.of(k, n)}, 95 % interval {100 * low:.1f} to {units.percent(high)}")
    lines.append(f"  {'spread':{width}}  {100 * min(shares):.1f} to {units.percent(max(shares))}, lowest and highest")
    best, images = sum(h.best.correct for h in held), sum(h.best.images for h in held)
    lines.append(
        f"  the epochs that these images chose, whose weights are kept: {units.of(best, images)}, which flatters"
    )
    return lines
