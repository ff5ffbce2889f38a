"""The largest batch that trains within the memory: predicted, then tried for real in processes of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .. import units
from ..errors import RunFailed
from ..layout import Cell, Column, text
from ..paper import Recipe
from ..record import to_json
from ..result import this_machine, versions
from .answers import LargestBatch, Trial
from .setting import recipe_of, side
from .trial import Asked

# Ours: what a batch may fill of the memory that the system calls available; it shrinks while other programs work.
SHARE = 0.8
CLOSE = 20  # the search ends when it knows the largest batch to one part in so many
GROW = 1.25  # how much more is tried where everything fitted
PRECISIONS = {"fp32": "float32", "bf16": "amp", "fp16": "amp"}
ON_CPU = (
    "each batch is tried in a process of its own: two updates on random images, after a small one; its address space "
    "may grow by the budget (RLIMIT_AS), and its peak is the growth of its resident memory (VmHWM)"
)
ON_DEVICE = (
    "each batch is tried in a process of its own: two updates on random images, after a small one, until the device's "
    "allocator refuses; its peak is what that allocator reserved"
)


@dataclass(frozen=True)
class _Search:
    """What is known so far: the largest batch that fitted, the smallest that did not."""

    fits: int
    refused: int | None

    def next(self, most: int) -> int | None:
        """The batch to try now; None when the answer is close enough, or all `most` images fit."""
        if self.fits >= most:
            return None
        if self.refused is None:
            return min(most, max(self.fits + 1, int(self.fits * GROW)))
        if self.refused - self.fits <= max(1, self.fits // CLOSE):
            return None
        # Where nothing fitted yet the answer is likely near: below the prediction by what it does not know of.
        return (self.fits + self.refused) // 2 if self.fits else int(self.refused / GROW)


def batch(
    network: str,
    data: str,
    *,
    settings: Sequence[str] = (),
    budget: int | None = None,
    device: str = "auto",
    progress: Callable[[str], None] = lambda words: None,
) -> LargestBatch:
    """Finds the largest batch of which the network makes training steps on the device.

    `budget` in bytes; None is all that a GPU has free, and on the CPU four fifths of what the system calls available.
    Input, optimiser and precision follow the network's recipe and the data. Never larger than the training images.
    Raises RunFailed where a trial fails for another reason than memory.
    """
    from ..classifier import pick_device
    from ..data import open_data

    recipe = recipe_of(network, settings)
    place = pick_device(device)
    opened = open_data(data, validation=recipe.validation)
    shape = (opened.channels, *side(network, recipe))
    room, where = _budget(str(place), budget)
    progress("predicting")
    predicted, bytes_then = _predicted(network, shape, len(opened.classes), recipe, room)
    most = len(opened.split("train"))
    asked = Asked(network, shape, len(opened.classes), recipe, str(place), room)
    trials: list[Trial] = []
    search = _Search(0, None)
    now: int | None = max(1, min(predicted, most))
    while now is not None:
        progress(f"trying a batch of {now}")
        trials.append(_try(asked, now))
        fitted = [t.batch for t in trials if t.fits]
        refused = [t.batch for t in trials if not t.fits and t.batch > max(fitted, default=0)]
        search = _Search(max(fitted, default=0), min(refused, default=None))
        now = search.next(most)
    return LargestBatch(
        network=network,
        input=shape,
        classes=len(opened.classes),
        device=str(place),
        precision=recipe.precision,
        optimiser=recipe.optimiser,
        budget_bytes=room,
        budget_from=where,
        predicted=predicted,
        predicted_bytes=bytes_then,
        batch=search.fits,
        refused=search.refused,
        capped=search.fits >= most,
        method=ON_CPU if place.type == "cpu" else ON_DEVICE,
        trials=tuple(trials),
        machine=this_machine(str(place), 0),
        versions=versions(),
    )


# ---- How much there is -----------------------------------------------------------------------------------------------


def _budget(device: str, given: int | None) -> tuple[int, str]:
    """Bytes that a batch may fill, and where that number is from."""
    if given is not None:
        return given, "as given"
    if device == "cpu":
        available = available_memory()
        return int(SHARE * available), f"{units.percent(SHARE)} of the {units.size(available)} that are available"
    import torch

    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device)
        return free, "free on the device"
    memory = this_machine().memory_bytes
    return int(SHARE * memory), f"{units.percent(SHARE)} of the machine's memory"


def available_memory() -> int:
    """Bytes that new work can have without swapping: the system's word for it, and a container's limit if lower."""
    found = [this_machine().memory_bytes]
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        found.append(next(int(x.split()[1]) * 1024 for x in lines if x.startswith("MemAvailable")))
    except (OSError, StopIteration):
        pass
    try:
        limit, used = (Path(f"/sys/fs/cgroup/memory.{name}").read_text().strip() for name in ("max", "current"))
        if limit != "max":
            found.append(int(limit) - int(used))
    except (OSError, ValueError):
        pass
    return max(0, min(found))


def _predicted(network: str, shape: tuple[int, int, int], classes: int, recipe: Recipe, room: int) -> tuple[int, int]:
    """The largest batch by the account of memory, and what it takes."""
    import torch

    from ..memory import fit, memory
    from ..networks import build

    channels, height, width = shape
    net = build(network, classes=classes, channels=channels, input=(height, width)).train()
    net = net.to(memory_format=torch.channels_last)
    sample = torch.empty(2, *shape, device="meta").to(memory_format=torch.channels_last)
    precision, kept = PRECISIONS[recipe.precision], optimiser_state(recipe)
    decay = recipe.weight_decay > 0
    largest = fit(net, sample, room, precision=precision, optimiser=kept, weight_decay=decay)  # type: ignore[arg-type]
    if not largest:
        return 0, 0
    found = memory(net, sample, batches=(int(largest),), precision=precision, optimiser=kept, weight_decay=decay)  # type: ignore[arg-type]
    return int(largest), found.peaks[0].training


def optimiser_state(recipe: Recipe) -> str:
    """The account's name for an optimiser that keeps as much: nothing, one copy of the parameters, or two."""
    copies = {"adamw": 2, "rmsprop": 1 + (recipe.momentum > 0)}.get(recipe.optimiser, int(recipe.momentum > 0))
    return ("sgd", "momentum", "adam")[copies]


# ---- Trials ----------------------------------------------------------------------------------------------------------


def _try(asked: Asked, batch: int) -> Trial:
    """One batch in a process of its own, so that its end is not ours."""
    line = [sys.executable, "-m", "convatlas.experiments.trial", str(batch)]
    paths = (str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", ""))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(line, input=to_json(asked), capture_output=True, text=True, env=env)
    if done.returncode < 0:
        return Trial(batch, False, None, f"its process was ended by signal {-done.returncode}")
    try:
        answer = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        said = done.stderr.strip().splitlines()
        raise RunFailed(
            f"a training step of {asked.network} with batch {batch} failed: "
            f"{said[-1] if said else f'exit code {done.returncode}'}"
        ) from None
    fits = answer["fits"] and answer["peak"] <= asked.budget
    reason = answer["reason"] or ("" if fits else "its peak is over the budget")
    return Trial(batch, fits, answer["peak"], reason)


# ---- How it is shown -------------------------------------------------------------------------------------------------


def as_text(found: LargestBatch) -> str:
    columns = [Column("batch", True), Column("fits"), Column("peak", True), Column("")]
    rows: list[list[Cell]] = [
        [t.batch, "yes" if t.fits else "no", "" if t.peak_bytes is None else units.size(t.peak_bytes), t.reason]
        for t in sorted(found.trials, key=lambda t: t.batch)
    ]
    return "\n\n".join((text(columns, rows), f"{sentence(found)}\nMethod: {found.method}."))


def sentence(found: LargestBatch) -> str:
    """The answer beside the prediction."""
    of = f"{found.network}, input {units.shape(found.input)}, {found.precision}, {found.optimiser} on {found.device}"
    room = f"{units.size(found.budget_bytes)} ({found.budget_from})"
    if not found.batch:
        return f"No batch of {of} trains in {room}."
    predicted = f"predicted were {found.predicted:,}" if found.predicted else "predicted was that none would"
    edge = "all the training images at once" if found.capped else f"{found.refused:,} does not fit"
    return f"A batch of {found.batch:,} of {of} trains in {room}; {edge}; {predicted}."
