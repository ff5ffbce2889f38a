"""Energy by counters: made-up sysfs folders, a made-up NVML and powermetrics' own form stand for the real ones."""

import io
import os
import time
from pathlib import Path

import pytest
import torch

from convatlas.measure import energy
from convatlas.measure.energy import Idle, NvmlEnergy, NvmlPower, Powermetrics, Rapl, joules_a_call, nvml, rapl

RANGE = 262_143_328_850  # of an Intel package, microjoules


def zone(root: Path, folder: str, name: str, microjoules: int) -> Path:
    place = root / folder
    place.mkdir(parents=True)
    (place / "name").write_text(f"{name}\n")
    (place / "energy_uj").write_text(f"{microjoules}\n")
    (place / "max_energy_range_uj").write_text(f"{RANGE}\n")
    return place


@pytest.fixture
def powercap(tmp_path: Path) -> Path:
    """Two sockets as Linux shows them, with parts of the packages, memory, and the platform's sum."""
    names = {"0": "package-0", "0:0": "core", "0:1": "dram", "1": "package-1", "2": "psys"}
    for number, name in names.items():
        zone(tmp_path, f"intel-rapl:{number}", name, 1_000_000)
    (tmp_path / "intel-rapl").mkdir()  # the control type, which counts nothing
    return tmp_path


def spend(powercap: Path, number: str, microjoules: int) -> None:
    file = powercap / f"intel-rapl:{number}" / "energy_uj"
    file.write_text(str((int(file.read_text()) + microjoules) % RANGE))


def test_rapl_adds_packages_and_memory_and_counts_no_part_twice(powercap: Path) -> None:
    counter = rapl(powercap)
    assert isinstance(counter, Rapl)
    assert counter.joules() == 0
    for number, joules in (("0", 3), ("0:0", 100), ("0:1", 0.5), ("1", 2), ("2", 100)):
        spend(powercap, number, int(1e6 * joules))
    assert counter.joules() == pytest.approx(5.5)
    assert counter.what == "RAPL counters of the processor (package-0, dram, package-1), all processes together"


def test_rapl_goes_on_where_its_counter_starts_again(powercap: Path) -> None:
    file = powercap / "intel-rapl:0" / "energy_uj"
    file.write_text(str(RANGE - 4_000_000))
    counter = rapl(powercap)
    assert isinstance(counter, Rapl)
    spend(powercap, "0", 7_000_000)
    assert int(file.read_text()) < 4_000_000
    assert counter.joules() == pytest.approx(7)
    spend(powercap, "0", 1_000_000)
    assert counter.joules() == pytest.approx(8)


def test_no_rapl_is_said(tmp_path: Path) -> None:
    assert rapl(tmp_path) == f"no RAPL counter in {tmp_path}"
    zone(tmp_path, "intel-rapl:0", "psys", 5)
    assert rapl(tmp_path) == f"no RAPL counter in {tmp_path}"


def test_a_counter_for_root_only_is_said(powercap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = powercap / "intel-rapl:0" / "energy_uj"
    read = Path.read_text

    def refusing(self: Path, *args: object, **kwargs: object) -> str:
        if self == file:
            raise PermissionError(13, "Permission denied", str(self))
        return read(self)

    monkeypatch.setattr(Path, "read_text", refusing)
    assert rapl(powercap) == f"{file} may be read by root only"


def test_a_damaged_counter_is_said(powercap: Path) -> None:
    (powercap / "intel-rapl:1" / "max_energy_range_uj").write_text("?")
    assert str(rapl(powercap)).startswith(f"the RAPL counters in {powercap} cannot be read: invalid literal")


class NvmlError(Exception):
    pass


class Library:
    """What is used of pynvml, of a GPU that takes 100 W at rest and 300 W at work."""

    NVMLError = NvmlError

    def __init__(self, *, has_energy: bool = True, has_power: bool = True):
        self.has_energy, self.has_power = has_energy, has_power
        self.begin, self.opened, self.uuid = time.perf_counter(), 0, ""
        self.extra = 0.0  # joules

    def nvmlInit(self) -> None:  # noqa: N802
        self.opened += 1

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.opened -= 1

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> str:  # noqa: N802
        if not uuid.startswith("GPU-"):
            raise NvmlError("Invalid Argument")
        self.uuid = uuid
        return "handle"

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: str) -> int:  # noqa: N802
        assert handle == "handle"
        if not self.has_energy:
            raise NvmlError("Not Supported")
        return 123_456_000 + int(1000 * (100 * (time.perf_counter() - self.begin) + self.extra))

    def nvmlDeviceGetPowerUsage(self, handle: str) -> int:  # noqa: N802
        assert handle == "handle"
        if not self.has_power:
            raise NvmlError("Not Supported")
        return 100_000

    def work(self) -> None:
        """A call that takes 2 J above rest."""
        self.extra += 2
        time.sleep(0.01)


def test_nvml_counts_energy_since_it_was_opened() -> None:
    library = Library()
    counter = nvml(library, "GPU-1")
    assert isinstance(counter, NvmlEnergy) and library.uuid == "GPU-1"
    before = counter.joules()
    library.extra += 50
    assert counter.joules() - before == pytest.approx(50, abs=2)
    assert before < 5
    counter.close()
    assert library.opened == 0


def test_energy_of_a_call_is_above_idle() -> None:
    library = Library()
    counter = nvml(library, "GPU-1")
    assert isinstance(counter, NvmlEnergy)
    rest = energy.idle(counter, 0.2)
    assert rest.watts == pytest.approx(100, rel=0.05) and rest.seconds == pytest.approx(0.2, rel=0.5)
    assert joules_a_call(counter, rest, library.work, 0.3) == pytest.approx(2, rel=0.05)
    said = energy.told(counter, rest)
    assert said.startswith("NVML total energy counter of the GPU, without the processor's; calls in a row for at least")
    assert said.endswith("s before the first case, is subtracted")


def test_no_more_than_idle_is_no_energy_and_not_zero() -> None:
    counter = nvml(Library(), "GPU-1")
    assert isinstance(counter, NvmlEnergy)
    assert joules_a_call(counter, Idle(150, 1), lambda: time.sleep(0.01), 0.1) is None


def test_a_gpu_without_an_energy_counter_has_its_power_integrated() -> None:
    library = Library(has_energy=False)
    counter = nvml(library, "GPU-1")
    assert isinstance(counter, NvmlPower)
    begin, before = time.perf_counter(), counter.joules()
    time.sleep(0.2)
    assert counter.joules() - before == pytest.approx(100 * (time.perf_counter() - begin), rel=0.05)
    counter.close()
    assert library.opened == 0 and not counter.thread.is_alive()


def test_power_is_integrated_by_the_trapezoidal_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """x^2 at 0, 1, 3 and 4: (0+1)/2 + (1+9)/2 * 2 + (9+16)/2 = 23."""
    at = iter([0.0, 1.0, 3.0, 4.0])
    now = [0.0]

    class Rising(Library):
        def nvmlDeviceGetPowerUsage(self, handle: str) -> int:  # noqa: N802
            now[0] = next(at)
            return int(1000 * now[0] ** 2)

    monkeypatch.setattr(energy, "SAMPLE_SECONDS", 1000)
    counter = NvmlPower(Rising(), "handle", lambda: now[0])
    assert [counter.joules() for _ in range(3)] == [0.5, 10.5, 23.0]
    counter.close()


def test_a_gpu_that_tells_nothing_is_said() -> None:
    library = Library(has_energy=False, has_power=False)
    assert nvml(library, "GPU-1") == "NVML gives neither energy nor power of the GPU: Not Supported"
    assert library.opened == 0
    assert nvml(Library(), "MIG-1") == "NVML gives neither energy nor power of the GPU: Invalid Argument"


def test_nvml_without_a_driver_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(_: Library) -> None:
        raise NvmlError("Driver Not Loaded")

    monkeypatch.setattr(Library, "nvmlInit", none)
    assert nvml(Library(), "GPU-1") == "NVML cannot be used: Driver Not Loaded"


def test_powermetrics_is_summed_over_its_samples() -> None:
    sample = (
        "*** Sampled system activity (Tue Nov 24 10:00:00 2026 +0000) ({0:.2f}ms elapsed) ***\n\n"
        "CPU Power: 9999 mW\nGPU Power: 9999 mW\nCombined Power (CPU + GPU + ANE): {1} mW\n\n"
    )
    counter = Powermetrics(io.StringIO(sample.format(100, 5000) + sample.format(200, 8000)))
    counter.close()
    assert counter.joules() == pytest.approx(0.1 * 5 + 0.2 * 8)


def test_powermetrics_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy.shutil, "which", lambda _: "/usr/bin/powermetrics")
    monkeypatch.setattr(os, "geteuid", lambda: 501)
    assert energy.powermetrics() == "powermetrics, which reads Apple's counters, runs as root only"
    monkeypatch.setattr(energy.shutil, "which", lambda _: None)
    assert energy.powermetrics() == "powermetrics, which reads Apple's counters, is not there"


def test_the_counter_fits_the_device(powercap: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "POWERCAP", powercap)
    monkeypatch.setattr(energy.platform, "system", lambda: "Linux")
    assert isinstance(energy.open_counter(torch.device("cpu")), Rapl)
    assert energy.open_counter(torch.device("xpu")) == "no counter of a xpu device is known"


def test_the_calls_are_divided_by_their_number() -> None:
    class Steps:
        what = "steps"
        taken = 0.0

        def joules(self) -> float:
            return self.taken

        def close(self) -> None: ...

    counter = Steps()

    def call() -> None:
        counter.taken += 0.25

    assert joules_a_call(counter, Idle(0, 1), call, 0) == 0.25
