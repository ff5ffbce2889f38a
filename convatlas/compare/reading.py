"""Run folders: results.json, config.json and log.jsonl of each; imports no torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import BadCheckpoint, UsageError
from ..record import from_json
from ..result import Result, read_results
from .answers import stamped
from .entries import Curve, Entry, Epoch, curve_of, place, source_of

Key = tuple[str, ...]


@dataclass(frozen=True)
class Run:
    """A run folder as it was read, before it is known which of its figures stand beside the other runs'."""

    name: str
    folder: Path
    shown: str  # the folder as text
    results: list[Result]  # oldest first
    measured: list[Result]  # the newest of each engine and precision on each machine


def read_run(name: str, folder: Path, shown: str) -> Run:
    """Raises UsageError where there is no folder and BadCheckpoint where it holds no results or damaged ones."""
    found = _results(folder)
    return Run(name, folder, shown, found, newest([r for r in found if r.timings], _measured))


def newest(results: Sequence[Result], key: Callable[[Result], Key]) -> list[Result]:
    """The last result of each key, in the order of their time."""
    last = {key(r): r for r in results}
    return sorted(last.values(), key=lambda r: r.when)


def _measured(r: Result) -> Key:
    return r.engine, r.precision, *place(r.machine)


def _results(folder: Path) -> list[Result]:
    if not folder.is_dir():
        raise UsageError(f"no run folder at {folder}; `convatlas train NETWORK DATA --out {folder}` makes one")
    file = folder / "results.json"
    try:
        found = read_results(file)
    except FileNotFoundError:
        found = []
    except (OSError, UnicodeDecodeError) as error:
        raise BadCheckpoint(f"{file} cannot be read: {error}") from None
    except ValueError as error:
        raise BadCheckpoint(f"damaged results: {error}; mend or remove that line") from None
    if not found:
        raise BadCheckpoint(
            f"{folder} holds no results; give a run that `convatlas train` finished (--resume ends a stopped one)"
        )
    return found


def judged(results: Sequence[Result]) -> list[Result]:
    """The results with an accuracy: of the test split where there is one, since validation images chose the weights."""
    found = [r for r in results if r.accuracy and r.accuracy.images]
    return [r for r in found if r.data and r.data.split == "test"] or found


def curves_in_order(results: Sequence[Result], first: Result | None) -> tuple[Curve, ...]:
    """Those of the first one's machine before others, then by engine and precision."""
    if first is None:
        return ()
    rest = sorted(
        (r for r in results if r is not first),
        key=lambda r: (place(r.machine) != place(first.machine), place(r.machine), r.engine, r.precision),
    )
    return tuple(map(curve_of, (first, *rest)))


def run_entry(run: Run, accuracy: Result | None, timed: Result | None) -> tuple[Entry, str]:
    """The run with the accuracy and the times that were chosen for it, and what is wrong with its answers ("")."""
    config = _read_config(run.folder / "config.json")
    trained = next((r for r in reversed(run.results) if r.kind == "training"), None)
    first = trained or run.results[-1]
    others = [r for r in run.measured if r is not timed]
    used = _once([trained, accuracy, *others, timed])
    epochs, bad = _read_log(run.folder / "log.jsonl")
    answers, fault = stamped(run.folder, run.results)
    curves = curves_in_order(run.measured, timed)
    entry = Entry(
        name=run.name,
        folder=run.shown,
        network=first.network,
        input=first.input,
        classes=config.spec.classes,
        params=first.params,
        macs=first.macs,
        weights_bytes=next((r.weights_bytes for r in (first, *used) if r.weights_bytes), 0),
        recipe=first.recipe,
        recipe_fields=config.recipe,
        epochs=first.epochs,
        seconds=first.seconds,
        source=config.data.source,
        split_rule=config.data.rule,
        accuracy=accuracy.accuracy if accuracy else None,
        data=accuracy.data if accuracy else None,
        timings=curves[0].timings if curves else (),
        machine=timed.machine if timed else None,
        sources=tuple(map(source_of, used)),
        curve=epochs,
        unreadable=bad,
        curves=curves,
        class_count=first.classes,
        answers=answers,
    )
    return entry, fault


def _once(results: Sequence[Result | None]) -> list[Result]:
    """Without None and repetitions."""
    return list({id(r): r for r in results if r}.values())


@dataclass(frozen=True)
class _Spec:
    classes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Data:
    source: str = ""
    rule: str = ""


@dataclass(frozen=True)
class _Config:
    """The fields of a run's config.json that a comparison needs."""

    spec: _Spec = _Spec()
    recipe: dict[str, Any] = field(default_factory=dict)
    data: _Data = _Data()


def _read_config(path: Path) -> _Config:
    """The run's config.json; an empty one where it is missing, since results.json alone can be compared."""
    try:
        return from_json(_Config, path.read_bytes())
    except FileNotFoundError:
        return _Config()
    except (OSError, ValueError) as error:
        raise BadCheckpoint(f"{path} cannot be read: {error}") from None


@dataclass(frozen=True)
class _Counts:
    correct: int
    images: int

    @property
    def error(self) -> float | None:
        return 1 - self.correct / self.images if self.images else None


@dataclass(frozen=True)
class _LogLine:
    """The fields of a training's log that a comparison needs."""

    epoch: int
    train_correct: int
    train_images: int
    validation: _Counts | None = None
    bad: tuple[dict[str, str], ...] = ()


def _read_log(path: Path) -> tuple[tuple[Epoch, ...], int]:
    """The errors at each epoch's end, and how many files could not be read. Nothing where there is no log."""
    try:
        lines = path.read_text().splitlines()
    except FileNotFoundError:
        return (), 0
    except (OSError, ValueError) as error:
        raise BadCheckpoint(f"{path} cannot be read: {error}") from None
    curve, bad = [], 0
    for number, line in enumerate(lines, 1):
        try:
            found = from_json(_LogLine, line)
        except ValueError as error:
            raise BadCheckpoint(f"{path}, line {number}: {error}") from None
        held_out = found.validation.error if found.validation else None
        curve.append(Epoch(found.epoch, _Counts(found.train_correct, found.train_images).error, held_out))
        bad += len(found.bad)
    return tuple(curve), bad
