"""Measured runs side by side.

Reads results.json, config.json and log.jsonl of run folders; imports no torch. Figures stand beside each other only
where they mean the same: accuracies of the same images, times of the same machine. Anything else gets a warning.
"""

import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .. import units
from ..errors import BadCheckpoint, UsageError
from ..layout import Cell, Column, markdown, text
from ..record import from_json, to_json
from ..result import Accuracy, DataStamp, Loading, Machine, Result, Timing, read_results

FORWARD_TIME = "forward time"
WIDE = 1.5  # third quartile over median, from which times are doubtful


@dataclass(frozen=True)
class Source:
    """Where figures of a run come from: one line of its results.json."""

    kind: str
    when: str
    command: str
    method: str
    machine: Machine
    versions: dict[str, str]


@dataclass(frozen=True)
class Missing:
    """What was not measured, and the command that would."""

    run: str
    what: str
    command: str


@dataclass(frozen=True)
class Epoch:
    """Error rates at the end of an epoch, as shares of one."""

    epoch: int
    train_error: float | None = None
    validation_error: float | None = None


Mark = Literal["run", "measurement", "catalogue", "published"]


@dataclass(frozen=True)
class Curve:
    """One engine's times, memory and energy by batch size, of one measurement."""

    engine: str
    precision: str
    timings: tuple[Timing, ...]  # by batch size, ascending
    machine: Machine
    when: str
    bare_bytes: int | None = None
    energy: str = ""
    loading: Loading | None = None


@dataclass(frozen=True)
class Entry:
    """One run with its newest figures; or a measured, a built or a published network, told apart by `mark`."""

    name: str  # the folder's name, with as much of its path as sets it apart
    folder: str
    network: str
    input: tuple[int, int, int]
    classes: tuple[str, ...]
    params: int
    macs: int  # of one image
    weights_bytes: int
    recipe: str
    recipe_fields: dict[str, Any]
    epochs: float
    seconds: float  # wall time of the training
    source: str  # the data as it was named to the training
    split_rule: str  # how the data's splits came about
    accuracy: Accuracy | None
    data: DataStamp | None  # the images that the accuracy is of
    timings: tuple[Timing, ...]
    machine: Machine | None  # of the timings
    sources: tuple[Source, ...]
    curve: tuple[Epoch, ...]
    unreadable: int  # training and validation files that could not be read
    mark: Mark = "run"
    curves: tuple[Curve, ...] = ()  # every engine's; `timings` and `machine` are those of the first
    protocol: str = ""  # of a published accuracy: how it was taken, and where it is printed
    printed_top1: float | None = None  # a published top-1 accuracy, as a share of one; it has no interval

    def timing(self, batch: int) -> Timing | None:
        return next((t for t in self.timings if t.batch == batch), None)


@dataclass(frozen=True)
class Comparison:
    entries: tuple[Entry, ...]
    warnings: tuple[str, ...]
    missing: tuple[Missing, ...]

    @property
    def batches(self) -> tuple[int, ...]:
        """The batch sizes at which every timed run was timed."""
        timed = [{t.batch for t in e.timings} for e in self.entries if e.timings]
        return tuple(sorted(set.intersection(*timed))) if timed else ()

    @property
    def comparable(self) -> bool:
        """Whether the accuracies are of the same images, so that the runs can be ranked."""
        return not images_clash(self.entries)

    def as_json(self) -> str:
        return to_json(self)

    def as_text(self) -> str:
        return "\n\n".join((text(*self.table()), *self._notes()))

    def as_markdown(self) -> str:
        return "\n\n".join((markdown(*self.table()), *self._notes()))

    def table(self) -> tuple[list[Column], list[list[Cell]]]:
        """Columns and rows, a row a run; times at the smallest and the largest batch size that all timed runs share."""
        shown = sorted({self.batches[0], self.batches[-1]}) if self.batches else []
        columns = [Column("run"), Column("network"), Column("accuracy"), Column("95 % interval")]
        columns += [Column(c, True) for c in ("parameters", "MACs", "weights", *(f"time, batch {b}" for b in shown))]
        columns.append(Column("training", True))
        return columns, [self._row(e, shown) for e in self.entries]

    def _row(self, e: Entry, batches: Sequence[int]) -> list[Cell]:
        row: list[Cell] = [e.name, e.network, _accuracy(e), interval(e.accuracy) if e.accuracy else "—"]
        row += [units.count(e.params), units.count(e.macs), units.size(e.weights_bytes) if e.weights_bytes else "—"]
        row += [units.milliseconds(t.median_ms) if (t := e.timing(b)) else "—" for b in batches]
        return [*row, units.seconds(e.seconds) if e.seconds else "—"]

    def _notes(self) -> list[str]:
        notes = [f"Times: median forward pass, {machine}." for machine in dict.fromkeys(machines(self.entries))]
        notes += [f"Warning: {warning}." for warning in self.warnings]
        lines = [f"  {m.run}: {m.what}; `{m.command}`" for m in self.missing]
        return [*notes, "\n".join(("Not measured:", *lines))] if lines else notes


def compare(runs: Sequence[Path]) -> Comparison:
    """The newest figures of each run folder; where the runs share images or a machine, the newest that all share.

    Raises UsageError where there is no run folder and BadCheckpoint where one holds no results or damaged ones.
    """
    folders = list({Path(run).resolve(): Path(run) for run in runs}.values())
    if not folders:
        raise UsageError("no run to compare; name one run folder or more, for example runs/*")
    results = [_results(folder) for folder in folders]
    judged = _agreed([_judged(found) for found in results], _images)
    timed = _agreed([[r for r in found if r.timings] for found in results], _place)
    names = _names(folders)
    entries = tuple(map(_entry, names, folders, results, judged, timed))
    missing = tuple(m for e in entries for m in _missing(e))
    return Comparison(entries, tuple(_warnings(entries)), missing)


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


def _judged(results: Sequence[Result]) -> list[Result]:
    """The results with an accuracy: of the test split where there is one, since validation images chose the weights."""
    found = [r for r in results if r.accuracy and r.accuracy.images]
    return [r for r in found if r.data and r.data.split == "test"] or found


def _images(r: Result) -> tuple[str, ...]:
    return (r.data.digest, r.data.split) if r.data else ()


def _place(r: Result) -> tuple[str, ...]:
    m = r.machine
    return m.processor, str(m.cores), m.system, m.device, str(m.threads)


def _agreed(runs: Sequence[Sequence[Result]], key: Callable[[Result], Any]) -> list[Result | None]:
    """Each run's newest result under the key that all runs share (the newest such key), else simply its newest."""
    shared: set[Any] = set.intersection(*({key(r) for r in run} for run in runs if run)) if any(runs) else set()
    pool = [r for run in runs for r in run if key(r) in shared]
    best = key(max(pool, key=lambda r: r.when)) if pool else None
    return [next((r for r in reversed(run) if not pool or key(r) == best), None) for run in runs]


def _names(folders: Sequence[Path]) -> list[str]:
    """Each folder's name, with as many of its parents as it takes to tell all apart."""
    paths = [Path(_text(folder.resolve())) for folder in folders]
    depth = [1] * len(paths)
    while True:
        names = ["/".join(path.parts[-n:]) for path, n in zip(paths, depth, strict=True)]
        seen = Counter(names)
        if max(seen.values()) == 1:
            return names
        depth = [n + (seen[name] > 1) for n, name in zip(depth, names, strict=True)]


def _text(path: Path) -> str:
    """A path with the bytes that are no UTF-8 spelled out, since JSON and pages cannot hold them."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _entry(name: str, folder: Path, results: list[Result], judged: Result | None, timed: Result | None) -> Entry:
    config = _read_config(folder / "config.json")
    trained = next((r for r in reversed(results) if r.kind == "training"), None)
    first = trained or results[-1]
    used = [r for i, r in enumerate((trained, judged, timed)) if r and not any(r is o for o in (trained, judged)[:i])]
    curve, bad = _read_log(folder / "log.jsonl")
    return Entry(
        name=name,
        folder=_text(folder),
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
        accuracy=judged.accuracy if judged else None,
        data=judged.data if judged else None,
        timings=tuple(sorted(timed.timings, key=lambda t: t.batch)) if timed else (),
        machine=timed.machine if timed else None,
        sources=tuple(Source(r.kind, r.when, r.command, r.method, r.machine, r.versions) for r in used),
        curve=curve,
        unreadable=bad,
    )


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


def _missing(e: Entry) -> Iterable[Missing]:
    folder = shlex.quote(e.folder)
    if e.accuracy is None or e.data is None or e.data.split != "test":
        yield Missing(e.name, "test accuracy", f"convatlas evaluate {folder} {shlex.quote(e.source) or 'DATA'}")
    if not e.timings:
        yield Missing(e.name, FORWARD_TIME, f"convatlas measure {folder}")


def _warnings(entries: Sequence[Entry]) -> Iterable[str]:
    if clash := images_clash(entries):
        yield clash
    if len(set(machines(entries))) > 1:
        yield f"times are not comparable: {_each((e.name, machine(e)) for e in entries if e.timings)}"
    for e in entries:
        worst = max(e.timings, key=lambda t: t.high_ms / t.median_ms, default=None)
        if worst and worst.high_ms > WIDE * worst.median_ms:
            ends = f"{units.milliseconds(worst.low_ms)} to {units.milliseconds(worst.high_ms)} at batch {worst.batch}"
            yield f"{e.name}: its times spread widely, quartiles {ends}; measure again when nothing else runs"
        if e.data and e.data.split == "validation":
            yield f"{e.name}: its accuracy is of validation images, which also chose its weights, so it flatters"

    unreadable = [(e.name, e.accuracy.unreadable) for e in entries if e.accuracy and e.accuracy.unreadable]
    if unreadable:
        yield f"unreadable files are in no accuracy; {_each((n, _files(k)) for n, k in unreadable)}"


def _files(n: int) -> str:
    return "1 file" if n == 1 else f"{n:,} files"


def images_clash(entries: Sequence[Entry]) -> str:
    """Why the accuracies cannot be set against each other; "" when they can."""
    stamps = [(e.name, e.data) for e in entries if e.accuracy]
    if len({(d.digest, d.split) if d else () for _, d in stamps}) < 2:
        return ""
    told = (
        (n, f"{d.name}/{d.split}, {d.images:,} images, digest {d.digest[:8]}" if d else "unknown") for n, d in stamps
    )
    return f"accuracies are not comparable, they are of different images: {_each(told)}"


def _each(pairs: Iterable[tuple[str, str]]) -> str:
    """ "a, b: x; c: y" from name and value, names of one value together; "each: x" for many of one value."""
    groups: dict[str, list[str]] = {}
    for name, value in pairs:
        groups.setdefault(value, []).append(name)
    if len(groups) == 1 and len(*groups.values()) > 2:
        return f"each: {next(iter(groups))}"
    return "; ".join(f"{', '.join(names)}: {value}" for value, names in groups.items())


def machines(entries: Iterable[Entry]) -> list[str]:
    return [machine(e) for e in entries if e.timings]


def machine(e: Entry) -> str:
    """The machine of the timings in words: processor, device, threads and torch's version."""
    m = e.machine
    if m is None:
        return "unknown machine"
    torch = next((f", torch {s.versions['torch']}" for s in reversed(e.sources) if "torch" in s.versions), "")
    where = f"{m.threads} threads" if m.device == "cpu" else m.device
    return f"{m.processor}, {where}{torch}"


def _accuracy(e: Entry) -> str:
    return units.of(e.accuracy.correct, e.accuracy.images) if e.accuracy else "—"


def interval(a: Accuracy) -> str:
    """ "96.4 to 99.2 %"."""
    low, high = a.interval
    return f"{100 * low:.1f} to {100 * high:.1f} %"
