"""A training that was killed or stopped, and resumed, ends with the same bits as one that never was (R1, R2)."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convatlas.result import read_results

Sums = Callable[[Path], dict[str, str]]


@pytest.fixture(scope="module")
def undisturbed(trainings: Any, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    """A run that nobody touched, and how long it took. It saved after every step, as the killed ones do."""
    run = tmp_path_factory.mktemp("whole") / "run"
    begin = time.monotonic()
    trainings.start(run, photos)
    assert trainings.wait() == 0, trainings.stderr(run).read_text()
    return run, time.monotonic() - begin


def kill_until_done(
    trainings: Any, run: Path, photos: Path, dice: random.Random, kills: int, seconds: float, inside_a_save: bool
) -> int:
    """Kills a run up to so often, then lets it end; gives the number of kills that met it alive."""
    met = 0
    for _ in range(kills):
        if inside_a_save:
            trainings.start(run, photos, kill_at_call=dice.randrange(20, 400))
        else:
            pid = trainings.start(run, photos)
            time.sleep(dice.uniform(0.02, seconds))
            with contextlib.suppress(ProcessLookupError):  # it was done before
                os.kill(pid, signal.SIGKILL)
        status = trainings.wait()
        assert status in (0, -signal.SIGKILL), trainings.stderr(run).read_text()
        met += status != 0
    trainings.start(run, photos)
    assert trainings.wait() == 0, trainings.stderr(run).read_text()
    return met


CASES = [(False, 2), (False, 2), (True, 2)]
LONG = [(False, 8)] * 10 + [(True, 5)] * 4  # 100 kills


@pytest.mark.parametrize(("number", "inside_a_save", "kills"), [(i, *case) for i, case in enumerate(CASES)])
def test_a_killed_run_ends_with_the_same_bits(
    number: int,
    inside_a_save: bool,
    kills: int,
    trainings: Any,
    undisturbed: tuple[Path, float],
    photos: Path,
    tmp_path: Path,
    sums_of: Sums,
) -> None:
    whole, seconds = undisturbed
    dice = random.Random(number)
    run = tmp_path / "run"
    met = kill_until_done(trainings, run, photos, dice, kills, seconds / 3, inside_a_save)
    assert met > 0
    assert sums_of(run) == sums_of(whole)
    ours, theirs = (read_results(r / "results.json") for r in (run, whole))
    assert [r.accuracy for r in ours] == [r.accuracy for r in theirs]
    assert not list((run / "checkpoints").glob("tmp-*"))


@pytest.mark.slow
@pytest.mark.parametrize(("number", "inside_a_save", "kills"), [(i + 100, *case) for i, case in enumerate(LONG)])
def test_a_run_that_is_killed_again_and_again(
    number: int,
    inside_a_save: bool,
    kills: int,
    trainings: Any,
    undisturbed: tuple[Path, float],
    photos: Path,
    tmp_path: Path,
    sums_of: Sums,
) -> None:
    whole, seconds = undisturbed
    run = tmp_path / "run"
    kill_until_done(trainings, run, photos, random.Random(number), kills, seconds / 2, inside_a_save)
    assert sums_of(run) == sums_of(whole)


@pytest.mark.parametrize(
    ("wish", "code", "name"),
    [(signal.SIGTERM, 143, "SIGTERM"), (signal.SIGINT, 130, "SIGINT")],
    ids=["SIGTERM", "SIGINT"],
)
def test_a_signal_saves_and_a_resume_goes_on(
    wish: signal.Signals,
    code: int,
    name: str,
    trainings: Any,
    undisturbed: tuple[Path, float],
    photos: Path,
    tmp_path: Path,
    sums_of: Sums,
) -> None:
    run = tmp_path / "run"
    # Nothing is saved on time here, so the second stop in the same epoch goes on from the first one's checkpoint.
    for _ in range(2):
        pid = trainings.start(run, photos, slow=0.05, save_seconds=1000.0)
        wait_for_steps(trainings.stderr(run), run)
        begin = time.monotonic()
        os.kill(pid, wish)
        assert trainings.wait() == code
        assert time.monotonic() - begin < 5
        said = trainings.stderr(run).read_text().splitlines()[-1]
        assert said.startswith(f"convatlas: stopped by {name} after step ")
        assert said.endswith(
            f" of 21; everything is saved, `convatlas train tiny {photos} --out {run} --resume` goes on"
        )
    trainings.start(run, photos)
    assert trainings.wait() == 0
    assert sums_of(run) == sums_of(undisturbed[0])


def wait_for_steps(stderr: Path, run: Path) -> None:
    """Until the training said what it trains, and a moment more."""
    have = stderr.read_text().count("recipe") if stderr.exists() else 0
    for _ in range(400):
        time.sleep(0.025)
        if stderr.exists() and stderr.read_text().count("recipe") > have:
            break
    time.sleep(0.12)


def test_a_second_interrupt_stops_at_once(trainings: Any, photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pid = trainings.start(run, photos, slow=5.0, save_seconds=1000.0)
    wait_for_steps(trainings.stderr(run), run)
    begin = time.monotonic()
    os.kill(pid, signal.SIGINT)
    time.sleep(0.2)
    os.kill(pid, signal.SIGINT)
    assert trainings.wait() == 130
    assert time.monotonic() - begin < 3
    assert "stopping after this step; once more stops at once" in trainings.stderr(run).read_text()


def test_two_workers_end_with_the_same_bits(
    trainings: Any, undisturbed: tuple[Path, float], photos: Path, tmp_path: Path, sums_of: Sums
) -> None:
    run = tmp_path / "run"
    trainings.start(run, photos, workers=2, save_seconds=1000.0)
    assert trainings.wait() == 0, trainings.stderr(run).read_text()
    assert sums_of(run) == sums_of(undisturbed[0])


def test_a_file_that_may_not_grow_leaves_the_last_good_checkpoint(
    trainings: Any, undisturbed: tuple[Path, float], photos: Path, tmp_path: Path, sums_of: Sums
) -> None:
    """A real short write: the system refuses files of more than 1,500 bytes, as a full disk would."""
    run = tmp_path / "run"
    pid = trainings.start(run, photos, slow=0.05)
    wait_for_steps(trainings.stderr(run), run)
    os.kill(pid, signal.SIGTERM)
    assert trainings.wait() == 143
    good = sorted(p.name for p in (run / "checkpoints").glob("step-*"))
    trainings.start(run, photos, largest_file=1500)
    assert trainings.wait() == 1
    said = trainings.stderr(run).read_text().splitlines()[-1]
    assert "File too large" in said and f"{good[-1]} is whole" in said, said
    assert sorted(p.name for p in (run / "checkpoints").iterdir() if p.is_dir()) == good
    trainings.start(run, photos)
    assert trainings.wait() == 0
    assert sums_of(run) == sums_of(undisturbed[0])
