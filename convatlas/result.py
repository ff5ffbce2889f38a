"""What one run or one measurement gave: figures with their spread, on which machine, with which versions."""

import os
import platform
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from math import sqrt
from pathlib import Path
from typing import Literal

from .record import from_json, to_json
from .version import __version__

Z95 = 1.959963984540054  # two-sided 95 % of the normal distribution


@dataclass(frozen=True)
class Accuracy:
    """Images answered right, of how many; unreadable files are counted apart and never stand for an answer."""

    correct: int
    top5_correct: int
    images: int
    unreadable: int = 0
    view: str = "center"

    @property
    def top1(self) -> float:
        return self.correct / self.images

    @property
    def top5(self) -> float:
        return self.top5_correct / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval of the top-1 accuracy (Wilson 1927), as shares of one."""
        return wilson(self.correct, self.images)


def wilson(k: int, n: int) -> tuple[float, float]:
    """95 % score interval of a proportion of k in n."""
    if n == 0:
        return 0.0, 1.0
    p, z2 = k / n, Z95 * Z95
    middle = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = Z95 / (1 + z2 / n) * sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


@dataclass(frozen=True)
class Timing:
    """Forward time of one batch: median and quartiles of `repeats` calls after warm-up, in milliseconds."""

    batch: int
    median_ms: float
    low_ms: float  # first quartile
    high_ms: float  # third quartile
    repeats: int
    peak_bytes: int | None = None  # largest resident memory of a process of its own that makes this call; GPU: of it
    joules: float | None = None  # of one batch, above idle, by a counter; None: not measurable here

    @property
    def images_per_second(self) -> float:
        return 1000 * self.batch / self.median_ms


@dataclass(frozen=True)
class Machine:
    processor: str
    cores: int
    memory_bytes: int
    system: str
    device: str = "cpu"  # where the network ran
    threads: int = 0  # that the network's operations used; 0: not asked


@dataclass(frozen=True)
class Loading:
    """Time to read, decode and preprocess one image on one thread, which no forward time includes, in milliseconds."""

    median_ms: float
    low_ms: float  # first quartile
    high_ms: float  # third quartile
    images: int
    of: str  # which images


@dataclass(frozen=True)
class DataStamp:
    """Which images a figure is about; the digest is over their content and labels."""

    name: str
    split: str
    images: int
    digest: str


@dataclass(frozen=True)
class Result:
    """One line of results.json. `kind` says which of the optional figures it brings."""

    kind: Literal["training", "evaluation", "measurement"]
    network: str
    input: tuple[int, int, int]
    classes: int
    params: int
    macs: int  # of one image
    machine: Machine
    versions: dict[str, str]
    when: str  # UTC, ISO 8601
    command: str
    method: str  # how the figures were obtained, in a sentence
    weights_bytes: int = 0
    recipe: str = ""
    epochs: float = 0
    seconds: float = 0  # wall time of the training
    data: DataStamp | None = None
    accuracy: Accuracy | None = None
    timings: tuple[Timing, ...] = field(default=())
    # ---- Of a measurement
    source: str = ""  # what was measured, as it was named
    engine: str = "torch"  # one of engines.ENGINES
    precision: str = "fp32"
    bare_bytes: int | None = None  # resident memory of that process before it had the network
    energy: str = ""  # by which counter joules were taken, or why there are none
    loading: Loading | None = None
    commit: str = ""  # of the working tree that the command ran in, where it is one of git


def read_results(path: Path) -> list[Result]:
    """The results in a file of one JSON object a line, read line by line. Raises ValueError that names the line."""
    results = []
    # Lines end where JSON's writers end them: a text may hold U+2028, at which str.splitlines would cut it.
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, 1):
            try:
                results.append(from_json(Result, line))
            except ValueError as error:
                raise ValueError(f"{path}, line {number}: {error}") from None
    return results


def lines(results: Sequence[Result]) -> str:
    """Results as one JSON object a line."""
    return "".join(f"{to_json(r)}\n" for r in results)


def this_machine(device: str = "cpu", threads: int = 0) -> Machine:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else 0
    return Machine(_processor(), cores, memory, f"{platform.system()} {platform.machine()}", device, threads)


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def versions(packages: Iterable[str] = ("torch", "torchvision", "numpy", "Pillow")) -> dict[str, str]:
    """Versions of Python, of ConvAtlas and of the packages that are installed."""
    found = {"python": platform.python_version(), "convatlas": __version__}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def command() -> str:
    """The command line that this process was started with, as a user would type it."""
    import shlex

    name = Path(sys.argv[0]).name
    return shlex.join(["convatlas" if name in ("__main__.py", "convatlas") else name, *sys.argv[1:]])
