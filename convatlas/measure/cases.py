"""The cases of a measurement: each source in each engine and precision, and how they are taken together."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import torch

from .. import engines
from ..result import Timing
from . import energy, peak
from .rounds import Point, as_alone, images, in_rounds, out_of_memory, spread_words
from .sources import Facts, open_source

SHARE = 0.5  # of the free memory that cases opened together may need by what is known of them
COPIES = 3  # of the weights: the network's, the engine's, and one on the way between them
KEEPS = "torch"  # the engine that lets the process keep memory
MEMINFO, CGROUP = Path("/proc/meminfo"), Path("/sys/fs/cgroup")

Tell = Callable[[str], None]


@dataclass
class Case:
    """One source in one engine and precision, with what was found of it."""

    facts: Facts
    engine: str
    precision: str
    batches: tuple[int, ...]  # ascending; those that do not fit the memory are taken away
    peaks: dict[int, peak.Peak] = field(default_factory=dict)
    timings: tuple[Timing, ...] = ()
    about: str = ""  # what the engine did to the network
    rounds: int = 0
    together: int = 0  # cases and batch sizes that took turns with it, itself among them
    spread: str = ""
    ended: str = ""  # which batch size ended the curve
    idle_only: tuple[int, ...] = ()  # batch sizes that took no more energy than idle
    left_out: str = ""  # why there is no result

    @property
    def name(self) -> str:
        return f"{self.facts.given}, {self.engine} {self.precision}"

    @property
    def bare_bytes(self) -> int | None:
        return next((p.bare_bytes for p in self.peaks.values() if p.bare_bytes is not None), None)

    @property
    def no_peak(self) -> str:
        """Why there are no peaks, or no more."""
        return next((p.reason for p in self.peaks.values() if p.peak_bytes is None and not p.out_of_memory), "")

    def end_at(self, batch: int, reason: str) -> None:
        """Ends the curve below a batch size; without any left there is nothing to measure."""
        self.batches = tuple(b for b in self.batches if b < batch)
        self.ended = f"batch {batch} {reason}"
        if not self.batches:
            self.left_out = self.ended

    def need(self) -> int:
        """Bytes that the open case takes at most: by its peak where that is known, else all layers at once."""
        largest = self.batches[-1]
        inputs = sum(self.batches) * 4 * torch.Size(self.facts.shape).numel()
        known, bare = self.peaks.get(largest), self.bare_bytes
        if known is not None and known.peak_bytes is not None and bare is not None:
            return known.peak_bytes - bare + inputs
        return COPIES * self.facts.weights_bytes + largest * self.facts.activation_bytes + inputs


def take_peaks(case: Case, device: str, threads: int, tell: Tell) -> None:
    """A process for each batch size. One that ends for want of memory ends the curve."""
    for batch in case.batches:
        tell(f"{case.name}, batch {batch}: peak memory in a process of its own")
        asked = peak.Case(case.facts.given, case.engine, case.precision, device, threads, batch)
        found = case.peaks[batch] = peak.peak(asked)
        if found.out_of_memory:
            case.end_at(batch, "did not fit the memory")
            return
        if found.crashed:
            case.end_at(batch, f"cannot be run: {found.reason}")
            return
        if found.peak_bytes is None:  # so it would be at every other size
            return


def groups(cases: Iterable[Case], budget: int | None) -> Iterator[list[Case]]:
    """Cases in their order, as many together as the budget in bytes holds, at least one; None: all."""
    group: list[Case] = []
    for case in cases:
        if group and budget is not None and sum(c.need() for c in (*group, case)) > budget:
            yield group
            group = []
        group.append(case)
    if group:
        yield group


@dataclass(frozen=True)
class Timer:
    """How cases are timed: where, for how many seconds a batch size, and with which counter of energy."""

    device: str
    threads: int
    seconds: float
    counter: energy.Counter | None
    rest: energy.Idle | None
    tell: Tell

    def time(self, group: Sequence[Case]) -> list[Case]:
        """Times cases in turns. Returns those that did not fit beside the others and must be taken alone."""
        crowded = []
        with ExitStack() as stack:
            points: dict[int, list[Point]] = {}
            for i, case in enumerate(group):
                own = self._opened(case, stack, alone=len(group) == 1)
                if own is None:
                    crowded.append(case)
                elif own:
                    points[i] = own
            every = [p for own in points.values() for p in own]
            if sum(group[i].engine == "compile" for i in points) > 1:
                for point in every:  # torch forgets what it compiled when another network is compiled
                    point.call()
            rounds = in_rounds(every, self.seconds, self.tell) if every else 0
            for i, own in points.items():
                case = group[i]
                case.rounds, case.together, case.spread = rounds, len(every), spread_words(own)
                case.timings = tuple(self._timing(case, p, every) for p in own)
        return crowded

    def _opened(self, case: Case, stack: ExitStack, alone: bool) -> list[Point] | None:
        """A case's points, warmed up; none where it cannot run; None where it may do so without the others."""
        with ExitStack() as inner:
            points: list[Point] = []
            batch = case.batches[0]
            try:
                self.tell(f"{case.name}: opening")
                source = open_source(case.facts.given)
                engine = engines.open_engine(
                    case.engine,
                    source.net,
                    source.shape,
                    precision=case.precision,
                    device=self.device,
                    threads=self.threads,
                )
                inner.callback(engine.close)
                case.about = engine.about
                for batch in case.batches:
                    self.tell(f"{case.name}, batch {batch}: warming up")
                    keeps = case.engine == KEEPS and self.device == "cpu"
                    point = Point(batch, engine.ready(images(batch, case.facts.shape)), keeps=keeps)
                    point.warm_up(self.seconds)
                    points.append(point)
            except Exception as error:  # engines raise every kind for a network that they cannot take
                if not out_of_memory(error):
                    case.left_out = " ".join(str(error).split()) or type(error).__name__
                    return []
                if not alone:
                    return None
                case.end_at(batch, "did not fit the memory")
            stack.push(inner.pop_all())
            return points

    def _timing(self, case: Case, point: Point, among: Sequence[Point]) -> Timing:
        known = case.peaks.get(point.batch)
        joules = None
        if self.counter is not None and self.rest is not None:
            self.tell(f"{case.name}, batch {point.batch}: energy")
            with as_alone(point, among):
                joules = energy.joules_a_call(self.counter, self.rest, point.call, energy.LOAD_SECONDS)
            if joules is None:
                case.idle_only += (point.batch,)
        return point.timing(known.peak_bytes if known else None, joules)


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free on the device; on the CPU what the kernel and the process's group have left."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    left = [_available(), _group_left()]
    return min((n for n in left if n is not None), default=None)


def _available() -> int | None:
    try:
        line = next(x for x in MEMINFO.read_text().splitlines() if x.startswith("MemAvailable:"))
    except (OSError, StopIteration):
        return None
    return int(line.split()[1]) * 1024


def _group_left() -> int | None:
    """Of the control group that a container runs in (cgroup v2)."""
    try:
        return int((CGROUP / "memory.max").read_text()) - int((CGROUP / "memory.current").read_text())
    except (OSError, ValueError):  # "max": no limit
        return None
