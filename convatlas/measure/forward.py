"""Forward time of a network by batch size, with its spread.

The method follows the forward-time chart of Canziani, Paszke and Culurciello (2017, arXiv 1605.07678): evaluation
mode, batch sizes in powers of two, a missing point where memory does not suffice.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import quantiles
from time import perf_counter

import torch
from torch import Tensor, nn

from .. import classifier, files, units
from ..account import account
from ..errors import UnknownName, UsageError
from ..layers import drop_heads
from ..layout import Cell, Column, text
from ..networks import NETWORKS, build
from ..result import Result, Timing, command, lines, now, this_machine, versions

BATCHES = (1, 2, 4, 8, 16, 32, 64)
ROUNDS = 10  # every batch size gets a slice of each round, so that a drift of the machine falls on all alike
FEW = 3  # rounds that are enough for a curve that has taken PATIENCE times its budget
PATIENCE = 5
STEADY = 1.1  # warm-up ends with a call that is at most this much slower than the fastest so far
WARM_UP = 3
SEED = 0
WORDS = ("can't allocate memory", "not enough memory")  # of the CPU's allocator


def measure(
    source: str | Path,
    *,
    batches: Sequence[int] = BATCHES,
    device: str = "auto",
    seconds: float = 1.0,
    progress: Callable[[str], None] | None = None,
) -> Result:
    """The forward time of a catalogue network (random weights), a run folder or a bundle, batch size by batch size.

    `seconds` is the time that each batch size may take; a call that is longer is made all the same. A batch size that
    does not fit the memory ends the curve, and `method` says so. `progress` is told each step in words. Raises
    UsageError for a batch size, a device or a source that does not exist, and what `classifier.load` raises.
    """
    sizes = sorted(set(batches))
    if not sizes or sizes[0] < 1:
        given = ",".join(map(str, batches)) or "none"
        raise UsageError(f"batch sizes {given}; give whole numbers from 1 up, like 1,8,64")
    if not seconds > 0:
        raise UsageError(f"{seconds:g} seconds a batch size; give a time above 0")
    place = classifier.pick_device(device)
    name, net, shape, classes, size = _open(source)
    totals = account(net, shape, name=name).totals
    net = net.eval().to(place)
    if shape[0] == 3:
        net = net.to(memory_format=torch.channels_last)
    curve = _Curve(net, shape, place, seconds)
    curve.run(sizes, progress or (lambda _: None))
    return Result(
        kind="measurement",
        network=name,
        input=shape,
        classes=classes,
        params=totals.params,
        macs=totals.macs,
        machine=this_machine(_device_name(place), torch.get_num_threads()),
        versions=versions(),
        when=now(),
        command=command(),
        method=curve.method(),
        weights_bytes=size,
        timings=curve.timings(),
    )


def record(run: Path, result: Result) -> None:
    """Add a result to a run folder's results.json; the old lines stay as they are whatever happens.

    Raises UsageError where `run` is no run folder and SaveFailed where the disk refuses.
    """
    if not (run / "checkpoints").is_dir():
        raise UsageError(f"{run} is no run folder (no checkpoints/); results are kept in run folders only")
    file = run / "results.json"
    old = file.read_bytes() if file.exists() else b""
    if old and not old.endswith(b"\n"):
        old += b"\n"
    files.write(file, old + lines([result]).encode())


def summary(result: Result) -> str:
    """A measurement as a table for a terminal, with the machine and the method under it."""
    columns = [Column(c, True) for c in ("batch", "median", "quartiles", "repeats", "images/s")]
    rows: list[list[Cell]] = [
        [
            t.batch,
            units.milliseconds(t.median_ms),
            f"{units.milliseconds(t.low_ms)} to {units.milliseconds(t.high_ms)}",
            t.repeats,
            units.count(t.images_per_second),
        ]
        for t in result.timings
    ]
    m = result.machine
    head = f"{result.network}, input {units.shape(result.input)}: {units.count(result.macs, 'MACs')} an image"
    where = f"{m.processor}, {m.device}, {m.threads} threads, torch {result.versions.get('torch', '?')}"
    return f"{head}\n\n{text(columns, rows)}\n\n{where}\n{result.method}"


def _open(source: str | Path) -> tuple[str, nn.Module, tuple[int, int, int], int, int]:
    """Name, network, input, classes and bytes of weights. A folder comes before a network of the same name."""
    name = str(source)
    if Path(source).exists() or name != Path(source).name:
        found = classifier.load(source)
        return found.spec.network, found.net, found.spec.input, len(found.spec.classes), found.weights_bytes
    if name not in NETWORKS:
        raise UnknownName("network, run folder or bundle", name, NETWORKS, "`convatlas list` shows the networks")
    net = build(name, seed=SEED)
    drop_heads(net)
    net.eval()  # before it is counted too
    size = sum(t.numel() * t.element_size() for t in net.state_dict().values())
    return name, net, NETWORKS[name].input, NETWORKS[name].classes, size


def _device_name(device: torch.device) -> str:
    return f"cuda, {torch.cuda.get_device_name(device)}" if device.type == "cuda" else str(device)


class _Curve:
    """The calls of one network at several batch sizes, taken in turns."""

    def __init__(self, net: nn.Module, shape: tuple[int, int, int], device: torch.device, seconds: float):
        self.net, self.shape, self.device, self.seconds = net, shape, device, seconds
        self.images: dict[int, Tensor] = {}
        self.calls: dict[int, list[float]] = {}  # seconds
        self.too_large: int | None = None
        self.rounds = 0

    def run(self, sizes: Sequence[int], progress: Callable[[str], None]) -> None:
        for size in sizes:
            progress(f"warming up, batch {size}")
            try:
                self.images[size] = self._input(size)
                self._warm_up(size)
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error):
                    raise
                self.images.pop(size, None)
                self.too_large = size
                break
            self.calls[size] = []
        end = perf_counter() + PATIENCE * self.seconds * len(self.calls)
        for done in range(ROUNDS):
            if done >= FEW and perf_counter() > end:
                break
            progress(f"round {done + 1} of {ROUNDS}")
            for size in self.calls:
                self._slice(size, self.seconds / ROUNDS)
            self.rounds += 1

    def _input(self, size: int) -> Tensor:
        """The same random images for every network of that input, drawn apart from the global random state."""
        generator = torch.Generator().manual_seed(SEED)
        images = torch.randn(size, *self.shape, generator=generator).to(self.device)
        return images.contiguous(memory_format=torch.channels_last) if self.shape[0] == 3 else images

    def _call(self, size: int) -> float:
        images = self.images[size]
        with torch.inference_mode():
            begin = perf_counter()
            self.net(images)
            if self.device.type != "cpu":
                torch.accelerator.synchronize(self.device)
            return perf_counter() - begin

    def _warm_up(self, size: int) -> None:
        taken = [self._call(size)]
        while len(taken) < WARM_UP or (taken[-1] > STEADY * min(taken) and sum(taken) < self.seconds):
            taken.append(self._call(size))

    def _slice(self, size: int, seconds: float) -> None:
        """Calls for `seconds`, at least one. The first after another size counts only where it fills the slice."""
        first = self._call(size)
        if first >= seconds:
            self.calls[size].append(first)
            return
        end = perf_counter() + seconds - first
        self.calls[size].append(self._call(size))
        while perf_counter() < end:
            self.calls[size].append(self._call(size))

    def timings(self) -> tuple[Timing, ...]:
        return tuple(_timing(size, calls) for size, calls in self.calls.items())

    def method(self) -> str:
        layout = "channels_last" if self.shape[0] == 3 else "contiguous"
        ended = f"; batch {self.too_large} did not fit the memory" if self.too_large else ""
        return (
            f"forward pass in PyTorch eager, float32, {layout}, evaluation mode, fixed random input on the device; "
            f"after warm-up, batch sizes in turns, {self.rounds} rounds of {self.seconds / ROUNDS:.2g} s or one call; "
            f"median and quartiles of single calls; loading and preprocessing are not in it{ended}"
        )


def out_of_memory(error: Exception) -> bool:
    """The CPU's allocator raises a plain RuntimeError, known by its words; accelerators have a class for it."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(w in str(error) for w in WORDS)


def _timing(size: int, calls: Sequence[float]) -> Timing:
    low, middle, high = quantiles([1000 * c for c in calls], n=4, method="inclusive")
    return Timing(size, middle, low, high, len(calls))
