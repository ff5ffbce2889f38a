"""What a training ends with: its best checkpoint evaluated, and the result written down."""

import time

import torch

from .. import files
from ..account import account
from ..classifier import restore
from ..errors import BadCheckpoint
from ..result import Accuracy, DataStamp, Result, command, now, this_machine, versions
from . import run as folder
from .checkpoint import State
from .device import LAYOUT, name_of
from .evaluation import View, count
from .loop import Training
from .progress import say


def finish(training: Training) -> Result:
    """Evaluates the best checkpoint on the test split (the validation split where there is no test), writes the result.

    Raises Stopped after a signal; a resume then does this again.
    """
    config, state, begin = training.config, training.state, time.monotonic()
    chosen = training.checkpoints.path(state.best.step if state.best else state.step)
    fault = files.damage(chosen)
    if fault:
        raise BadCheckpoint(f"the best checkpoint {chosen} is damaged: {fault}; train again into another folder")
    file = chosen / "model.safetensors"
    found = restore(config.spec, file, training.run)
    totals = account(found.net, config.spec.input, name=config.spec.network).totals
    stamp, accuracy = _evaluated(training, found.net)
    result = Result(
        kind="training",
        network=config.spec.network,
        input=config.spec.input,
        classes=len(config.spec.classes),
        params=totals.params,
        macs=totals.macs,
        machine=this_machine(name_of(training.device), torch.get_num_threads()),
        versions=versions(),
        when=now(),
        command=command(),
        method=_method(training, stamp),
        weights_bytes=found.weights_bytes,
        recipe=config.recipe_name,
        epochs=training.length.epochs,
        seconds=state.seconds + time.monotonic() - begin,
        data=stamp,
        accuracy=accuracy,
    )
    folder.add_result(training.run, result)
    _tell_bad(state)
    return result


def _evaluated(training: Training, net: torch.nn.Module) -> tuple[DataStamp | None, Accuracy | None]:
    config, data = training.config, training.data
    split = next((s for s in ("test", "validation") if s in data.splits), None)
    if split is None:
        say("the data has neither test nor validation images; the network was not evaluated")
        return None, None
    if split == "validation":
        say("the data has no test images; the result is on the validation images, which also chose the epoch")
    view = View(config.spec.preprocess, training.device, config.recipe.batch, training.workers)
    net = net.to(training.device).to(memory_format=LAYOUT)
    counts = count(net, data.splits[split], view, training.obey)
    training.state.note(counts.bad)
    return DataStamp(data.name, split, len(data.splits[split]), config.data.digests[split]), counts.accuracy


def _method(training: Training, stamp: DataStamp | None) -> str:
    best = training.state.best
    chosen = (
        f"the best of {training.state.epoch} epochs by validation (epoch {best.epoch})" if best else "the last epoch"
    )
    if stamp is None:
        return f"{chosen}, not evaluated: the data has neither test nor validation images"
    caution = "" if stamp.split == "test" else "; there are no test images, and these chose the epoch"
    return f"{chosen}, each image of the {stamp.split} split once, one centre view{caution}"


def _tell_bad(state: State) -> None:
    bad = sorted([*state.bad, *state.new_bad], key=lambda b: b.path)
    if not bad:
        return
    say(f"{len(bad):,} image{'s' if len(bad) > 1 else ''} could not be read and took no part:")
    for b in bad[:10]:
        say(f"  {b.path}: {b.reason}")
    if len(bad) > 10:
        say(f"  and {len(bad) - 10:,} more; log.jsonl names those of the training and validation images")
