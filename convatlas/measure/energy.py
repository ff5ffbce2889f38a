"""Energy by counters: NVIDIA's NVML, RAPL of Intel and AMD processors, Apple's powermetrics.

Only what a counter or a power sensor reports is used. A power rating is no measurement; where there is no counter, or
it may not be read, the energy is not measurable and the reason is said.
"""

import os
import platform
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import IO, Any, Protocol

import torch

POWERCAP = Path("/sys/class/powercap")
IDLE_SECONDS = 3.0
LOAD_SECONDS = 2.0  # a GPU's counter moves on every 20 to 100 ms
SAMPLE_SECONDS = 0.02


class Counter(Protocol):
    what: str  # which counter it is, in words

    def joules(self) -> float:
        """Since it was opened."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class Idle:
    """What flows while nothing is asked of the device."""

    watts: float
    seconds: float


def open_counter(device: torch.device) -> Counter | str:
    """The counter of a device, or why its energy is not measurable here."""
    if device.type == "cuda":
        try:
            pynvml = import_module("pynvml")
        except ImportError:
            return "the package nvidia-ml-py, which reads the GPU's counter, is not installed"
        return nvml(pynvml, f"GPU-{torch.cuda.get_device_properties(device).uuid}")
    if platform.system() == "Darwin":
        return powermetrics()
    if device.type != "cpu":
        return f"no counter of a {device.type} device is known"
    return rapl(POWERCAP)


def idle(counter: Counter, seconds: float = IDLE_SECONDS) -> Idle:
    begin, before = time.perf_counter(), counter.joules()
    time.sleep(seconds)
    after, end = counter.joules(), time.perf_counter()
    return Idle((after - before) / (end - begin), end - begin)


def joules_a_call(counter: Counter, rest: Idle, call: Callable[[], object], seconds: float) -> float | None:
    """Joules of one call above idle, over calls in a row for `seconds`; None where idle takes as much."""
    call()
    begin, before, calls = time.perf_counter(), counter.joules(), 0
    while time.perf_counter() - begin < seconds or not calls:
        call()
        calls += 1
    used = counter.joules() - before
    above = used - rest.watts * (time.perf_counter() - begin)
    return above / calls if above > 0 else None


def told(counter: Counter, rest: Idle) -> str:
    """The method in a sentence, for `Result.energy`."""
    return (
        f"{counter.what}; calls in a row for at least {LOAD_SECONDS:g} s; idle of {rest.watts:.3g} W, taken over "
        f"{rest.seconds:.1f} s before the first case, is subtracted"
    )


# ---- RAPL


class Rapl:
    """Sums of the energy_uj files of zones, each of which starts again from 0 at its max_energy_range_uj."""

    def __init__(self, zones: list[Path]):
        self.zones = zones
        self.ranges = [int((zone / "max_energy_range_uj").read_text()) for zone in zones]
        self.last = [self._read(zone) for zone in zones]
        self.total = 0
        names = ", ".join((zone / "name").read_text().strip() for zone in zones)
        self.what = f"RAPL counters of the processor ({names}), all processes together"

    @staticmethod
    def _read(zone: Path) -> int:
        return int((zone / "energy_uj").read_text())

    def joules(self) -> float:
        for i, zone in enumerate(self.zones):
            value = self._read(zone)
            step = value - self.last[i]
            self.total += step if step >= 0 else step + self.ranges[i]
            self.last[i] = value
        return self.total / 1e6

    def close(self) -> None:
        pass


def rapl(powercap: Path) -> Rapl | str:
    """The packages' counters and the memory's, which is not part of them (Linux, power/powercap/powercap.rst)."""
    zones = sorted(p for p in powercap.glob("intel-rapl:*") if (p / "energy_uj").exists())
    chosen = [zone for zone in zones if _name(zone).startswith("package") or _name(zone) == "dram"]
    if not any(_name(zone).startswith("package") for zone in chosen):
        return f"no RAPL counter in {powercap}"
    try:
        return Rapl(chosen)
    except PermissionError as error:
        return f"{error.filename} may be read by root only"
    except (OSError, ValueError) as error:
        return f"the RAPL counters in {powercap} cannot be read: {error}"


def _name(zone: Path) -> str:
    try:
        return (zone / "name").read_text().strip()
    except OSError:
        return ""


# ---- NVML


class NvmlEnergy:
    """The GPU's own energy counter, in millijoules since the driver was loaded (Volta and later)."""

    what = "NVML total energy counter of the GPU, without the processor's"

    def __init__(self, library: Any, handle: object):
        self.nvml, self.handle = library, handle
        self.first = library.nvmlDeviceGetTotalEnergyConsumption(handle)

    def joules(self) -> float:
        return (self.nvml.nvmlDeviceGetTotalEnergyConsumption(self.handle) - self.first) / 1000

    def close(self) -> None:
        self.nvml.nvmlShutdown()


class NvmlPower:
    """The GPU's power, sampled by a thread and integrated by the trapezoidal rule."""

    what = (
        f"NVML power of the GPU, sampled every {1000 * SAMPLE_SECONDS:.0f} ms and integrated, without the processor's"
    )

    def __init__(self, library: Any, handle: object, clock: Callable[[], float] = time.perf_counter):
        self.nvml, self.handle, self.clock = library, handle, clock
        self.total, self.watts, self.at = 0.0, self._watts(), clock()
        self.lock, self.ended = threading.Lock(), threading.Event()
        self.thread = threading.Thread(target=self._sample, daemon=True)
        self.thread.start()

    def _watts(self) -> float:
        return self.nvml.nvmlDeviceGetPowerUsage(self.handle) / 1000

    def _sample(self) -> None:
        while not self.ended.wait(SAMPLE_SECONDS):
            self.joules()

    def joules(self) -> float:
        with self.lock:
            watts, at = self._watts(), self.clock()
            self.total += (watts + self.watts) / 2 * (at - self.at)
            self.watts, self.at = watts, at
            return self.total

    def close(self) -> None:
        self.ended.set()
        self.thread.join()
        self.nvml.nvmlShutdown()


def nvml(library: Any, uuid: str) -> NvmlEnergy | NvmlPower | str:
    """The energy counter of the GPU of that UUID, or its integrated power where it has no such counter."""
    try:
        library.nvmlInit()
    except library.NVMLError as error:
        return f"NVML cannot be used: {error}"
    try:
        handle = library.nvmlDeviceGetHandleByUUID(uuid)
        for kind in (NvmlEnergy, NvmlPower):
            try:
                return kind(library, handle)
            except library.NVMLError as error:
                reason = str(error)
    except library.NVMLError as error:
        reason = str(error)
    library.nvmlShutdown()
    return f"NVML gives neither energy nor power of the GPU: {reason}"


# ---- Apple


class Powermetrics:
    """Power of processor, GPU and neural engine together, as powermetrics prints it, integrated over its intervals."""

    what = "powermetrics' combined power of CPU, GPU and ANE, integrated over its samples of 100 ms"
    elapsed = re.compile(r"\(([\d.]+)ms elapsed\)")
    power = re.compile(r"Combined Power \(CPU \+ GPU \+ ANE\): (\d+) mW")

    def __init__(self, lines: IO[str], end: Callable[[], object] = lambda: None):
        self.lines, self.end = lines, end
        self.total, self.milliseconds = 0.0, 0.0
        self.thread = threading.Thread(target=self._follow, daemon=True)
        self.thread.start()

    def _follow(self) -> None:
        for line in self.lines:
            if found := self.elapsed.search(line):
                self.milliseconds = float(found[1])
            elif found := self.power.search(line):
                self.total += self.milliseconds * int(found[1]) / 1e6

    def joules(self) -> float:
        return self.total

    def close(self) -> None:
        self.end()
        self.thread.join()


def powermetrics() -> Powermetrics | str:
    """macOS lets only root read its counters."""
    if shutil.which("powermetrics") is None:
        return "powermetrics, which reads Apple's counters, is not there"
    if os.geteuid() != 0:
        return "powermetrics, which reads Apple's counters, runs as root only"
    line = ["powermetrics", "--samplers", "cpu_power,gpu_power", "-i", "100", "-b", "1"]  # a line at a time
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    return Powermetrics(process.stdout, process.terminate)
