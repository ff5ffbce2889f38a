"""What networks cost on this machine: forward time, peak memory and energy by batch size, engine by engine."""

import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack, overload

import torch

from .. import classifier, engines, files
from ..errors import RunFailed, UnknownName, UsageError
from ..result import Loading, Result, command, lines, now, this_machine, versions
from . import archive, energy
from .cases import SHARE, Case, Timer, free_bytes, groups, take_peaks
from .loading import loading
from .rounds import ROUNDS
from .sources import facts, is_run, open_source

BATCHES = (1, 2, 4, 8, 16, 32, 64)
PRECISIONS = ("fp32", "bf16", "fp16")
PACKAGES = ("torch", "torchvision", "numpy", "Pillow", "onnxruntime", "openvino")
HOW = {
    "eager": "PyTorch",
    "torch": "PyTorch",
    "compile": "torch.compile",
    "onnxruntime": "ONNX Runtime",
    "openvino": "OpenVINO",
}
NOT_HERE = "not measurable here"


class Options(TypedDict, total=False):
    """The options of `measure`."""

    batches: Sequence[int]
    engines: str | Sequence[str]
    precisions: Sequence[str]
    device: str
    seconds: float
    threads: int | None
    memory: bool
    energy: bool
    archive: str | Path | None
    progress: Callable[[str], None] | None


@dataclass(frozen=True)
class Setting:
    batches: Sequence[int] = BATCHES
    engines: str | Sequence[str] = ("torch",)
    precisions: Sequence[str] = ("fp32",)
    device: str = "auto"
    seconds: float = 1.0
    threads: int | None = None
    memory: bool = True
    energy: bool = True
    archive: str | Path | None = None
    progress: Callable[[str], None] | None = None

    def tell(self, words: str) -> None:
        if self.progress is not None:
            self.progress(words)


@dataclass(frozen=True)
class LeftOut:
    """A case without a result, and why."""

    source: str
    engine: str
    precision: str
    reason: str

    def __str__(self) -> str:
        return f"{self.source}, {self.engine} {self.precision}: left out, {self.reason}"


class Measured(list[Result]):
    """The results, with what was left out, what got slower, and which lines of the archive are damaged."""

    def __init__(self) -> None:
        super().__init__()
        self.left_out: list[LeftOut] = []
        self.slower: list[tuple[archive.Slower, ...]] = []  # of each result
        self.damaged: list[str] = []


# A str is a sequence of str too, but it is one source here.
@overload
def measure(sources: str | Path, **options: Unpack[Options]) -> Result: ...  # type: ignore[overload-overlap]


@overload
def measure(sources: Sequence[str | Path] | Sequence[str] | Sequence[Path], **options: Unpack[Options]) -> Measured: ...


def measure(
    sources: str | Path | Sequence[str | Path] | Sequence[str] | Sequence[Path], **options: Unpack[Options]
) -> Result | Measured:
    """The cost of catalogue networks (random weights), run folders and bundles; a Result for each engine and precision.

    A single source gives its one Result, in one engine and precision.

    `engines`: names of `engines.ENGINES`, or "all" for every one at hand. `precisions`: "fp32", "bf16", "fp16".
    `seconds` is the time that each batch size may take; a call that is longer is made all the same. `memory`: a fresh
    process for each batch size tells its peak. `energy`: by a counter where there is one. `archive`: a folder to whose
    measurements.jsonl each result is added as soon as it is there. `progress` is told each step in words.

    What cannot run here or does not take the network is in the answer's `left_out` with its reason. A batch size that
    does not fit the memory ends its curve, and `method` says so. Raises UsageError for a batch size, an engine, a
    device or a source that does not exist, RunFailed where nothing could be measured, SaveFailed where the archive
    refuses a line, and what `classifier.load` raises.
    """
    single = isinstance(sources, str | Path)
    given = [sources] if isinstance(sources, str | Path) else list(sources)
    setting = Setting(**options)
    work = _Work(given, setting)
    if single and len(work.engines) * len(setting.precisions) > 1:
        raise UsageError(
            f"{given[0]} in several engines or precisions gives several results; give the source in a list, "
            f"like measure([{str(given[0])!r}], ...)"
        )
    found = work.run()
    if not found:
        reasons = "; ".join(dict.fromkeys(map(str, found.left_out)))
        raise RunFailed(f"nothing could be measured: {reasons}")
    return found[0] if single else found


def record(run: Path, result: Result) -> None:
    """Add a result to a run folder's results.json; the old lines stay as they are whatever happens.

    Raises UsageError where `run` is no run folder and SaveFailed where the disk refuses.
    """
    if not is_run(run):
        raise UsageError(f"{run} is no run folder (no checkpoints/); results are kept in run folders only")
    file = run / "results.json"
    old = file.read_bytes() if file.exists() else b""
    if old and not old.endswith(b"\n"):
        old += b"\n"
    files.write(file, old + lines([result]).encode())


class _Work:
    """One call of `measure`."""

    def __init__(self, given: Sequence[str | Path], setting: Setting):
        self.given, self.setting = given, setting
        self.engines = _engines(setting.engines)
        self.batches = _batches(setting)
        for name in setting.precisions:
            if name not in PRECISIONS:
                raise UnknownName("precision", name, PRECISIONS)
        self.device = classifier.pick_device(setting.device)
        self.threads = setting.threads or torch.get_num_threads()
        self.loadings: dict[str, tuple[Loading | None, str]] = {}
        self.energy = ""
        self.groups = 0
        self.before: list[Result] = []  # the archive
        self.found = Measured()

    def run(self) -> Measured:
        setting = self.setting
        if setting.archive is not None:  # before the work, as it may be a place that cannot be
            self.before = archive.read(setting.archive, self.found.damaged.append)
        with _threads(self.threads):
            cases = [case for source in self.given for case in self._cases(source)]
            if setting.memory:
                for case in self._left(cases):
                    take_peaks(case, str(self.device), self.threads, setting.tell)
            self._time(self._left(cases))
        return self.found

    def _cases(self, given: str | Path) -> list[Case]:
        """A source's cases, once it has been opened and counted, with what cannot run here left out."""
        self.setting.tell(f"{given}: opening")
        source = open_source(given)
        self.loadings[source.given] = loading(source)
        known = facts(source)
        cases = []
        for engine in self.engines:
            reason = engines.available(engine, str(self.device))
            runs = () if reason else engines.precisions(engine, str(self.device))
            for precision in self.setting.precisions:
                case = Case(known, engine, precision, self.batches)
                if precision not in runs:
                    case.left_out = reason or f"it has no {precision} on {self.device}, it has {', '.join(runs)}"
                cases.append(case)
        return cases

    def _left(self, cases: Sequence[Case]) -> list[Case]:
        return [case for case in cases if not case.left_out or self._leave_out(case)]

    def _leave_out(self, case: Case) -> bool:
        told = LeftOut(case.facts.given, case.engine, case.precision, case.left_out)
        if told not in self.found.left_out:
            self.found.left_out.append(told)
        return False

    def _time(self, cases: Sequence[Case]) -> None:
        counter, rest = self._counter()
        try:
            timer = Timer(str(self.device), self.threads, self.setting.seconds, counter, rest, self.setting.tell)
            free = free_bytes(self.device)
            waiting = list(groups(cases, None if free is None else int(SHARE * free)))
            self.groups = len(waiting)
            for group in waiting:  # grows by those that did not fit beside the others
                crowded = timer.time(group)
                waiting += [[case] for case in crowded]
                self.groups += len(crowded)
                self._keep([case for case in self._left(group) if case not in crowded])
        finally:
            if counter is not None:
                counter.close()

    def _counter(self) -> tuple[energy.Counter | None, energy.Idle | None]:
        if not self.setting.energy:
            return None, None
        counter = energy.open_counter(self.device)
        if isinstance(counter, str):
            self.energy = f"{NOT_HERE}: {counter}"
            return None, None
        self.setting.tell("energy of the idle machine")
        rest = energy.idle(counter)
        self.energy = energy.told(counter, rest)
        return counter, rest

    def _keep(self, cases: Sequence[Case]) -> None:
        """Makes results of cases and adds them to the archive at once: a later case may end the command."""
        results = [self._result(case) for case in cases]
        if self.setting.archive is not None:
            archive.append(self.setting.archive, results)
        self.found.extend(results)
        self.found.slower.extend(archive.slower(r, self.before) for r in results)

    def _result(self, case: Case) -> Result:
        known = case.facts
        idle = f"; batch {', '.join(map(str, case.idle_only))} took no more than idle" if case.idle_only else ""
        return Result(
            kind="measurement",
            network=known.network,
            input=known.shape,
            classes=known.classes,
            params=known.params,
            macs=known.macs,
            machine=this_machine(_device_name(self.device), self.threads),
            versions=versions(PACKAGES),
            when=now(),
            command=command(),
            method=self._method(case),
            weights_bytes=known.weights_bytes,
            timings=case.timings,
            source=known.given,
            engine=case.engine,
            precision=case.precision,
            bare_bytes=case.bare_bytes,
            energy=self.energy + idle,
            loading=self.loadings[known.given][0],
            commit=commit(),
        )

    def _method(self, case: Case) -> str:
        parted = f" in one of {self.groups} groups, as memory does not hold all at once" if self.groups > 1 else ""
        parts = [
            f"forward pass in {HOW[case.engine]} ({case.about}), {case.precision}, evaluation mode, fixed random input "
            "placed before",
            f"after warm-up, {case.together} cases in turns{parted}, {case.rounds} rounds of "
            f"{self.setting.seconds / ROUNDS:.2g} s or one call",
            f"median and quartiles of single calls; {case.spread}",
            "loading and preprocessing are not in it",
        ]
        reason = self.loadings[case.facts.given][1]
        if reason:
            parts.append(f"their time was not taken: {reason}")
        if case.no_peak:
            parts.append(f"peak memory is {NOT_HERE}: {case.no_peak}")
        elif case.peaks:
            parts.append("peak memory of a process of its own that loads the network and makes two calls")
        if case.ended:
            parts.append(case.ended)
        return "; ".join(parts)


def _engines(given: str | Sequence[str]) -> tuple[str, ...]:
    names = engines.ENGINES if given == "all" else (given,) if isinstance(given, str) else tuple(dict.fromkeys(given))
    for name in names:
        if name not in engines.ENGINES:
            raise UnknownName("engine", name, engines.ENGINES)
    if not names:
        raise UsageError(f"no engine given; give one or more of {', '.join(engines.ENGINES)}, or all")
    return names


def _batches(setting: Setting) -> tuple[int, ...]:
    sizes = sorted(set(setting.batches))
    if not sizes or sizes[0] < 1:
        given = ",".join(map(str, setting.batches)) or "none"
        raise UsageError(f"batch sizes {given}; give whole numbers from 1 up, like 1,8,64")
    if not setting.seconds > 0:
        raise UsageError(f"{setting.seconds:g} seconds a batch size; give a time above 0")
    if setting.threads is not None and setting.threads < 1:
        raise UsageError(f"{setting.threads} threads; give a whole number from 1 up")
    if not setting.precisions:
        raise UsageError(f"no precision given; give one or more of {', '.join(PRECISIONS)}")
    return tuple(sizes)


@contextmanager
def _threads(wanted: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(wanted)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _device_name(device: torch.device) -> str:
    return f"cuda, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)


def commit() -> str:
    """The commit that the working folder has checked out; "" where it is no working tree of git."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
