"""An archive of measurements of the lecture's networks, as `convatlas measure` writes it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from convatlas.catalogue import catalogue
from convatlas.result import Machine, Result, Timing, lines, this_machine

NO_COUNTER = "no counter of energy can be read on this machine"
Archive = Callable[..., Path]


def measurement(name: str, ms: float, machine: Machine | None = None, **fields: object) -> Result:
    """A line of the archive with two batch sizes: `ms` at 1, eight times as long at 16."""
    e = catalogue().entry(name)
    known = {
        "engine": "torch",
        "when": "2026-11-24T10:00:00+00:00",
        "source": name,
        "input": e.input,
        "classes": e.classes,
        "energy": NO_COUNTER,
        "timings": tuple(
            Timing(
                batch, ms * times, ms * times * 0.99, ms * times * 1.02, 20, 300_000_000 + 4 * e.params + batch * 10**6
            )
            for batch, times in ((1, 1), (16, 8))
        ),
    }
    return Result(
        kind="measurement",
        network=e.name,
        params=e.params,
        macs=e.macs,
        machine=machine or this_machine(threads=1),
        versions={"torch": "2.14.1"},
        command=f"convatlas measure {name}",
        method="in a sentence",
        **{**known, **fields},
    )


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    """archive(result, ...): a folder whose measurements.jsonl has these lines."""

    def write(*results: Result) -> Path:
        folder = tmp_path / "results"
        folder.mkdir(exist_ok=True)
        (folder / "measurements.jsonl").write_text(lines(results), encoding="utf-8")
        return folder

    return write
