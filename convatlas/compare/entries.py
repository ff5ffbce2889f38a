"""What stands side by side: a run, a measurement, a catalogue network or a published figure, each told by its mark."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from ..result import Accuracy, DataStamp, Loading, Machine, Result, Timing

FORWARD_TIME = "forward time"
NAMED = 20  # entries of one value that a sentence names; it counts the others
Mark = Literal["run", "measurement", "catalogue", "published"]


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

    def timing(self, batch: int) -> Timing | None:
        return next((t for t in self.timings if t.batch == batch), None)


@dataclass(frozen=True)
class Entry:
    """One run with its newest figures; or a measured, a built or a published network, told apart by `mark`."""

    name: str  # the folder's name, with as much of its path as sets it apart; else what was measured or asked for
    folder: str  # of a run; else what `convatlas measure` takes
    network: str
    input: tuple[int, int, int]
    classes: tuple[str, ...]  # by name, where they are known
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
    class_count: int = 0
    answers: DataStamp | None = None  # the images that the run's answers.csv is of; None: it has none that can be used

    def timing(self, batch: int) -> Timing | None:
        return next((t for t in self.timings if t.batch == batch), None)

    @property
    def measured(self) -> tuple[Curve, ...]:
        """The curves of the machine that `timings` are of, the first one's engine first."""
        if not self.curves and self.timings and self.machine:
            return (Curve("torch", "fp32", self.timings, self.machine, ""),)
        if len(self.curves) < 2:
            return self.curves
        return tuple(c for c in self.curves if place(c.machine) == place(self.curves[0].machine))


def place(m: Machine) -> tuple[str, ...]:
    """What must be the same for two times to be comparable."""
    return m.processor, str(m.cores), m.system, m.device, str(m.threads)


def curve_of(r: Result) -> Curve:
    timings = tuple(sorted(r.timings, key=lambda t: t.batch))
    return Curve(r.engine, r.precision, timings, r.machine, r.when, r.bare_bytes, r.energy, r.loading)


def source_of(r: Result) -> Source:
    return Source(r.kind, r.when, r.command, r.method, r.machine, r.versions)


def interval(a: Accuracy) -> str:
    """ "96.4 to 99.2 %"."""
    low, high = a.interval
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def machines(entries: Iterable[Entry]) -> list[str]:
    return [machine(e) for e in entries if e.timings]


def machine(e: Entry) -> str:
    """The machine of the timings in words: processor, device, threads and torch's version."""
    m = e.machine
    if m is None:
        return "unknown machine"
    torch = next((f", torch {s.versions['torch']}" for s in reversed(e.sources) if "torch" in s.versions), "")
    threads = "1 thread" if m.threads == 1 else f"{m.threads} threads"
    where = threads if m.device == "cpu" else m.device
    return f"{m.processor}, {where}{torch}"


def engine(e: Entry) -> str:
    """ "onnxruntime, fp32": what the timings were taken with; "" where nothing was timed."""
    return f"{e.measured[0].engine}, {e.measured[0].precision}" if e.measured else ""


def images_clash(entries: Sequence[Entry]) -> str:
    """Why the accuracies cannot be set against each other; "" when they can."""
    stamps = [(e.name, e.data) for e in entries if e.accuracy]
    if len({(d.digest, d.split) if d else () for _, d in stamps}) < 2:
        return ""
    told = (
        (n, f"{d.name}/{d.split}, {d.images:,} images, digest {d.digest[:8]}" if d else "unknown") for n, d in stamps
    )
    return f"accuracies are not comparable, they are of different images: {each(told)}"


def each(pairs: Iterable[tuple[str, str]]) -> str:
    """ "a, b: x; c: y" from name and value, names of one value together; "each: x" for many of one value."""
    groups: dict[str, list[str]] = {}
    for name, value in pairs:
        groups.setdefault(value, []).append(name)
    if len(groups) == 1 and len(*groups.values()) > 2:
        return f"each: {next(iter(groups))}"
    return "; ".join(f"{_few(names)}: {value}" for value, names in groups.items())


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"
