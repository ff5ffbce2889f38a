"""What a training ends with: its best checkpoint evaluated, and all that explains the run written into its folder.

answers.csv     what each image of the test split was answered
confusion.csv   images by label and answer
worst.json      the most confident mistakes
README.md       the run in words and tables, see `readme`
results.json    last of all: with it a run is finished, so that a kill before it lets --resume write all of this again

With a recipe whose `view` is not the centre there are answers-VIEW.csv and a second result as well; what is shipped is
tested in the centre view, and so the training's own result is.
"""

import time
from dataclasses import dataclass

import torch

from .. import files
from ..account import account
from ..classifier import Classifier, restore
from ..data import Split
from ..errors import BadCheckpoint
from ..record import to_json
from ..result import DataStamp, Result, command, now, this_machine, versions
from . import run as folder
from .checkpoint import State
from .device import LAYOUT, name_of
from .evaluating.answers import Counts, answers_csv, confusion_csv, merged, mistakes
from .evaluating.counting import View, count
from .evaluating.evaluation import in_words
from .loop import Training
from .progress import say
from .readme import Account, readme

WORST = 50  # mistakes in worst.json


@dataclass(frozen=True)
class Tested:
    """The split that a training ends on, and the counts by view; the centre is the first."""

    split: Split
    counts: dict[str, Counts]


def finish(training: Training) -> Result:
    """Evaluates the best checkpoint on the test split (the validation split where there is no test), writes all down.

    Every process calls it and counts its share; the first one writes. Raises Stopped after a signal; a resume then does
    this again, with the same files.
    """
    begin = time.monotonic()
    found = _best(training)
    tested = counted(training, found)
    results = _results(training, found, tested, begin)
    if training.processes.first:
        write(training, tested, results)
        _tell_bad(training.state)
    return results[-1]


def counted(training: Training, found: Classifier) -> Tested | None:
    """The test images in the centre and in the recipe's own view, over all processes; None without any."""
    config, data = training.config, training.data
    name = next((s for s in ("test", "validation") if s in data.splits), None)
    if name is None:
        _say(training, "the data has neither test nor validation images; the network was not evaluated")
        return None
    if name == "validation":
        _say(
            training,
            "the data has no test images; the result is on the validation images, which also chose the epoch",
        )
    net = found.net.to(training.device).to(memory_format=LAYOUT)
    counts = {}
    for view in dict.fromkeys(("center", config.recipe.view.strip())):
        way = View(
            config.spec.preprocess,
            training.device,
            config.recipe.batch,
            training.feed.workers,
            share=training.processes.share,
            view=view,
        )
        own = count(net, data.splits[name], way, training.obey)
        counts[view] = merged(training.processes.gathered(own))
        training.state.note(counts[view].bad)
    return Tested(data.splits[name], counts)


def write(training: Training, tested: Tested | None, results: list[Result]) -> None:
    """Writes the files that explain the run, each whole or not at all, and the results last. Raises SaveFailed."""
    run, classes = training.run, training.config.spec.classes
    if tested is not None:
        for view, counts in tested.counts.items():
            name = "answers.csv" if view == "center" else f"answers-{view.replace(' ', '-').replace(',', '-')}.csv"
            files.write(run / name, answers_csv(counts.answers, tested.split, classes))
        center = tested.counts["center"].answers
        files.write(run / "confusion.csv", confusion_csv(center, classes))
        files.write(run / "worst.json", to_json(mistakes(center, tested.split, classes, WORST), indent=1) + "\n")
    told = Account(
        training.run,
        training.config,
        tuple(results),
        None if tested is None else tested.counts["center"].answers,
        None if tested is None else tested.split,
    )
    files.write(run / "README.md", readme(told))
    folder.add_result(run, *results)


def _best(training: Training) -> Classifier:
    """The classifier of the best checkpoint, else of the last. Raises BadCheckpoint."""
    state = training.state
    chosen = training.checkpoints.path(state.best.step if state.best else state.step)
    fault = files.damage(chosen)
    if fault:
        raise BadCheckpoint(f"the best checkpoint {chosen} is damaged: {fault}; train again into another folder")
    return restore(training.config.spec, chosen / "model.safetensors", training.run)


def _results(training: Training, found: Classifier, tested: Tested | None, begin: float) -> list[Result]:
    """One a view that is not the centre, as evaluations, and the training's own last."""
    config, state = training.config, training.state
    totals = account(found.net, config.spec.input, name=config.spec.network).totals
    views: dict[str, Counts | None] = {"center": None} if tested is None else dict(tested.counts)
    stamp = None if tested is None else _stamp(training, tested.split)
    results = []
    for view, counts in reversed(views.items()):
        trained = view == "center"
        result = Result(
            kind="training" if trained else "evaluation",
            network=config.spec.network,
            input=config.spec.input,
            classes=len(config.spec.classes),
            params=totals.params,
            macs=totals.macs,
            machine=this_machine(name_of(training.device), torch.get_num_threads()),
            versions=versions(),
            when=now(),
            command=command(),
            method=_method(training, stamp, view),
            weights_bytes=found.weights_bytes,
            recipe=config.recipe_name,
            epochs=training.length.epochs,
            seconds=state.seconds + time.monotonic() - begin if trained else 0,
            data=stamp,
            accuracy=None if counts is None else counts.accuracy(view),
        )
        results.append(result)
    return results


def _stamp(training: Training, split: Split) -> DataStamp:
    data = training.config.data
    return DataStamp(data.name, split.name, len(split), data.digests[split.name])


def _method(training: Training, stamp: DataStamp | None, view: str) -> str:
    best = training.state.best
    chosen = (
        f"the best of {training.state.epoch} epochs by validation (epoch {best.epoch})" if best else "the last epoch"
    )
    if stamp is None:
        return f"{chosen}, not evaluated: the data has neither test nor validation images"
    caution = "" if stamp.split == "test" else "; there are no test images, and these chose the epoch"
    return f"{chosen}, each image of the {stamp.split} split once, {in_words(view)}{caution}"


def _say(training: Training, line: str) -> None:
    if training.processes.first:
        say(line)


def _tell_bad(state: State) -> None:
    bad = sorted([*state.bad, *state.new_bad], key=lambda b: b.path)
    if not bad:
        return
    say(f"{len(bad):,} image{'s' if len(bad) > 1 else ''} could not be read and took no part:")
    for b in bad[:10]:
        say(f"  {b.path}: {b.reason}")
    if len(bad) > 10:
        say(f"  and {len(bad) - 10:,} more; log.jsonl names those of the training and validation images")
