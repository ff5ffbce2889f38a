"""The run folder beside its checkpoints: what is trained, the log, the results, and where it ran.

config.json       RunConfig: the whole training follows from it and from the data
log.jsonl         an Epoch a line; nothing in it depends on the machine's speed or on a stop
gradients.jsonl   Gradients a line, where asked for
clock.jsonl       times and rates, which do
results.json      a Result a line
environment.json  machine, versions, threads, for each start
"""

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from .. import files
from ..classifier import Spec
from ..data import BadFile, Data
from ..data.moments import Colours
from ..errors import BadCheckpoint, BadData, SaveFailed, UsageError
from ..paper import Recipe
from ..record import from_json, to_json
from ..result import Machine, Result, command, lines, now, read_results
from .progress import say

FORMAT = 1  # version of config.json


@dataclass(frozen=True)
class DataConfig:
    source: str
    name: str
    rule: str  # how the splits came about
    images: dict[str, int]  # by split
    digests: dict[str, str]  # sha256 over content and labels, by split
    fold: tuple[int, int] | None = None  # which of how many parts is validated on


@dataclass(frozen=True)
class Start:
    """Where the weights started from: a file, or "torchvision:NAME" of its published weights."""

    path: str
    sha256: str  # of the file; of torchvision's, over the tensors


@dataclass(frozen=True)
class RunConfig:
    spec: Spec
    recipe: Recipe
    recipe_name: str
    data: DataConfig
    seed: int
    start: Start | None = None
    colours: Colours | None = None  # of the training images, for the augmentation that needs them
    format: int = FORMAT


@dataclass(frozen=True)
class Epoch:
    """One line of the log. Losses are means over images."""

    epoch: int
    step: int  # batches used so far
    lr: float  # of the epoch's last update
    train_loss: float  # as optimised, auxiliary heads in it
    train_correct: int  # while the weights were changing, on changed images
    train_images: int
    validation: "Validation | None"
    bad: tuple[BadFile, ...]  # files that could not be read, where no earlier line names them
    head_losses: tuple[float, ...] = ()  # of each auxiliary classifier, not yet weighted


@dataclass(frozen=True)
class Gradients:
    """One line of gradients.jsonl: the root of each parameter's mean squared gradient norm over the epoch's steps."""

    epoch: int
    norms: dict[str, float]


@dataclass(frozen=True)
class Validation:
    correct: int
    top5_correct: int
    images: int
    loss: float


@dataclass(frozen=True)
class Environment:
    """What can change the bits of a training, and how it was started."""

    machine: Machine
    versions: dict[str, str]
    layout: str  # of images and weights in memory
    command: str
    when: str
    compiled: bool = False
    processes: int = 1

    @classmethod
    def now(cls, machine: Machine, versions: dict[str, str], layout: str, compiled: bool, processes: int) -> Self:
        return cls(machine, versions, layout, command(), now(), compiled, processes)

    def differences(self, other: "Environment") -> str:
        """What changes bits and is not the same, in words; "" when all is."""
        found = [
            f"{package} {self.versions.get(package)} is now {other.versions.get(package)}"
            for package in ("torch", "numpy", "Pillow", "convatlas")
            if self.versions.get(package) != other.versions.get(package)
        ]
        places: list[tuple[str, object, object]] = [
            (what, self.machine, other.machine) for what in ("threads", "processor", "device")
        ]
        places += [(what, self, other) for what in ("layout", "compiled", "processes")]
        for what, earlier, later in places:
            before, here = getattr(earlier, what), getattr(later, what)
            if before != here:
                found.append(f"{what} {before} is now {here}")
        return ", ".join(found)


def describe(data: Data, source: str | Path, fold: tuple[int, int] | None = None) -> DataConfig:
    """`source` is kept as a full path: export and resume may be called from another folder."""
    sizes = {name: len(split) for name, split in data.splits.items()}
    given = str(source)
    named = given if given == "digits" or "://" in given else str(Path(given).resolve())
    return DataConfig(named, data.name, data.rule, sizes, {n: s.digest() for n, s in data.splits.items()}, fold)


@dataclass(frozen=True)
class _Form:
    format: int = FORMAT


def read_config(run: Path) -> RunConfig:
    """Raises BadCheckpoint where it is missing or cannot be read."""
    file = run / "config.json"
    try:
        written = file.read_bytes()
        form = from_json(_Form, written).format  # first, as another version may have other fields
        if form != FORMAT:
            raise BadCheckpoint(
                f"{file} has format {form}, this version reads {FORMAT}; use the convatlas that wrote it"
            )
        return from_json(RunConfig, written)
    except BadCheckpoint:
        raise
    except FileNotFoundError:
        raise BadCheckpoint(f"{file} is missing; {run} is no whole run folder") from None
    except (OSError, ValueError) as error:
        raise BadCheckpoint(f"{file} cannot be read: {error}") from None


def state_of(run: Path) -> str:
    """ "new" (missing, empty, or a start that was killed at once), "run", or "other" (somebody's folder or file)."""
    if not run.exists():
        return "new"
    if not run.is_dir():
        return "other"
    if (run / "config.json").exists():
        return "run"
    leftovers = [run / "checkpoints", *run.glob(".*.tmp")]  # of a start that was killed before it wrote config.json
    started = (run / "checkpoints").is_dir() and any((run / "checkpoints").glob("step-*"))
    return "other" if started or any(p not in leftovers for p in run.iterdir()) else "new"


def refuse_taken(run: Path, resume: bool) -> None:
    """Raises UsageError for a folder that a new training must leave alone, or that is no run to go on with."""
    kind = state_of(run)
    if kind == "other" and resume:
        raise UsageError(f"{run} is no run folder, it has no config.json; choose another --out, or leave --resume out")
    if kind == "run" and not resume:
        raise UsageError(f"{run} already holds a run; --resume goes on with it, another --out starts a new one")
    if kind == "other":
        raise UsageError(f"{run} is not empty; choose another --out, a run folder starts out empty or missing")


WORDS = ("where", "dataset", "assumed")  # of a recipe: they say where it is from and change no training


def refuse_other_recipe(run: Path, config: RunConfig, network: str, recipe: Recipe, seed: int) -> None:
    """Raises UsageError that names the first thing in which a resumed run would not be the one in the folder."""
    known, given = dataclasses.asdict(config.recipe), dataclasses.asdict(recipe)
    pairs = [("network", config.spec.network, network), ("seed", config.seed, seed)]
    pairs += [(f"recipe field {name}", known[name], given[name]) for name in known if name not in WORDS]
    for what, before, here in pairs:
        if before != here:
            raise UsageError(
                f"{run} was started with {what} {_plain(before)}, not {_plain(here)}; "
                "give the same again to resume it, or another --out to start a new run"
            )


def refuse_other_fold(run: Path, config: RunConfig, fold: tuple[int, int] | None) -> None:
    """Raises UsageError where a run that goes on was validated on another part."""
    before = config.data.fold
    if fold is not None and fold != before:
        known = "no fold" if before is None else f"fold {before[0]} of {before[1]}"
        raise UsageError(f"{run} was started with {known}, not with fold {fold[0]} of {fold[1]}; choose another --out")


def refuse_other_data(run: Path, config: RunConfig, given: DataConfig, classes: Sequence[str]) -> None:
    """Raises UsageError for another data set, BadData for the same one with other content."""
    before = config.data
    if before.digests == given.digests and tuple(classes) == config.spec.classes:
        return  # the same images and labels, wherever they lie now
    if not _same_place(before.source, given.source):
        raise UsageError(
            f"{run} was started on {before.source}, not on {given.source}, and their images differ; "
            "give the same data to resume it, or another --out to start a new run"
        )
    names = [n for n in {**before.digests, **given.digests} if before.digests.get(n) != given.digests.get(n)]
    name = names[0] if names else "train"
    raise BadData(
        f"{given.source} has changed since {run} was started: its {name} split had {before.images.get(name, 0)} images "
        f"(digest {before.digests.get(name, 'none')[:12]}), now {given.images.get(name, 0)} "
        f"(digest {given.digests.get(name, 'none')[:12]}); put the images back, or start a new run with another --out"
    )


def _same_place(a: str, b: str) -> bool:
    return a == b or os.path.realpath(a) == os.path.realpath(b)


def _plain(value: object) -> str:
    if isinstance(value, list | tuple):
        return ",".join(map(_plain, value)) or "none"
    return f"{value:.12g}" if isinstance(value, float) else "none" if value is None else str(value)


def name_recipe(recipe: Recipe, known: dict[str, Recipe], first: str) -> str:
    """The name of a recipe: "resnet_cifar", or "resnet_cifar with epochs=2, lr=0.05" after the nearest known one."""

    def changes(name: str) -> list[str]:
        a, b = dataclasses.asdict(known[name]), dataclasses.asdict(recipe)
        return [f"{k}={_plain(b[k])}" for k in a if a[k] != b[k] and k not in WORDS]

    if not known:
        return "own"
    order = sorted(known, key=lambda name: (len(changes(name)), name != first, name))
    different = changes(order[0])
    return f"{order[0]} with {', '.join(different)}" if different else order[0]


# ---- The log ---------------------------------------------------------------------------------------------------------


def add_line(file: Path, record: object) -> int:
    """Appends one line of JSON, waits until it is on the disk; gives the file's length. Raises SaveFailed."""
    try:
        with file.open("ab") as out:
            out.write(f"{to_json(record)}\n".encode())
            out.flush()
            os.fsync(out.fileno())
            return out.tell()
    except OSError as error:
        raise SaveFailed(files.save_message(file, error)) from error


def cut_back(file: Path, size: int) -> None:
    """Shortens a file to what the checkpoint knew of it; the lines after are written again, the same."""
    try:
        have = file.stat().st_size if file.exists() else 0
        if have > size:
            os.truncate(file, size)
        elif have < size:
            say(f"{file} has {have} bytes, {size} were written; its missing lines stay missing")
    except OSError as error:
        raise SaveFailed(files.save_message(file, error)) from error


def read_log(run: Path) -> list[Epoch]:
    """The finished epochs of a run, in order. Raises BadCheckpoint that names the line at fault."""
    file = run / "log.jsonl"
    try:
        written = file.read_text().splitlines()
    except (OSError, ValueError) as error:
        raise BadCheckpoint(f"{file} cannot be read: {error}") from None
    epochs = []
    for number, line in enumerate(written, 1):
        try:
            epochs.append(from_json(Epoch, line))
        except ValueError as error:
            raise BadCheckpoint(f"{file}, line {number}: {error}") from None
    return epochs


# ---- Results and environment -----------------------------------------------------------------------------------------


def training_result(run: Path) -> Result | None:
    """The result of a finished training; None where there is none yet."""
    try:
        found = [r for r in read_results(run / "results.json") if r.kind == "training"]
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BadCheckpoint(f"results cannot be read: {error}; remove the line, --resume writes it again") from None
    return found[-1] if found else None


def add_result(run: Path, *results: Result) -> None:
    """Adds a line a result to results.json, which is replaced whole. Raises SaveFailed."""
    file = run / "results.json"
    before = file.read_text() if file.exists() else ""
    files.write(file, before + lines(results))


def add_environment(run: Path, here: Environment) -> Environment | None:
    """Adds this start to environment.json; gives the first start's environment, None if this is the first."""
    file = run / "environment.json"
    starts: list[Environment] = []
    try:
        starts = from_json(list[Environment], file.read_bytes())
    except FileNotFoundError:
        pass
    except (OSError, ValueError, json.JSONDecodeError) as error:
        say(f"{file} cannot be read ({error}); it is written anew")
    files.write(file, to_json([*starts, here], indent=1))
    return starts[0] if starts else None


def how_to_resume(run: Path) -> str:
    """What to type to go on with a run: this process's own command line where it was `convatlas train`."""
    typed = command()
    if not typed.startswith("convatlas train "):
        return f"train(..., {str(run)!r}, resume=True)"
    return f"`{typed}`" if " --resume" in typed else f"`{typed} --resume`"
