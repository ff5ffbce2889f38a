"""A training that was killed or stopped, and resumed, ends with the same bits as one that never was (R1, R2)."""

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from convatlas import weights
from convatlas.result import read_results
from convatlas.train.checkpoint import Checkpoints

Sums = Callable[[Path], dict[str, str]]


RECIPES = ("plain", "hard", "half")


@pytest.fixture(scope="module")
def undisturbed(
    trainings: Any, photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], tuple[Path, float]]:
    """A run of a recipe that nobody touched, and how long it took. It saved after every step, as the killed ones do."""
    known: dict[str, tuple[Path, float]] = {}

    def whole(recipe: str = "plain") -> tuple[Path, float]:
        if recipe not in known:
            run = tmp_path_factory.mktemp("whole") / recipe
            begin = time.monotonic()
            trainings.start(run, photos, recipe=recipe)
            assert trainings.wait() == 0, trainings.stderr(run).read_text()
            known[recipe] = run, time.monotonic() - begin
        return known[recipe]

    return whole


def killed(trainings: Any, run: Path, photos: Path, recipe: str, **how: Any) -> int:
    """Starts or resumes, is killed by itself or after `seconds`; gives 1 where that met it alive."""
    seconds = how.pop("seconds", None)
    pid = trainings.start(run, photos, recipe=recipe, **how)
    if seconds is not None:
        time.sleep(seconds)
        with contextlib.suppress(ProcessLookupError):  # it was done before
            os.kill(pid, signal.SIGKILL)
    status = trainings.wait()
    assert status in (0, -signal.SIGKILL), trainings.stderr(run).read_text()
    return int(status != 0)


def equal_at_the_end(trainings: Any, run: Path, photos: Path, recipe: str, whole: Path, sums_of: Sums) -> None:
    trainings.start(run, photos, recipe=recipe)
    assert trainings.wait() == 0, trainings.stderr(run).read_text()
    assert sums_of(run) == sums_of(whole)
    ours, theirs = (read_results(r / "results.json") for r in (run, whole))
    assert [r.accuracy for r in ours] == [r.accuracy for r in theirs]
    assert not list((run / "checkpoints").glob("tmp-*"))


# Recipe, kills at any moment, kills inside a save; 20 in all, 13 of them inside a save.
CASES = [("plain", 3, 0), ("plain", 0, 6), ("hard", 2, 4), ("half", 2, 3)]
LONG = [(recipe, 8, 4) for recipe in RECIPES for _ in range(3)]  # 108 kills, a third of them inside a save


def kill_and_compare(
    number: int, case: tuple[str, int, int], trainings: Any, undisturbed: Any, photos: Path, run: Path, sums_of: Sums
) -> None:
    recipe, any_moment, inside_a_save = case
    whole, seconds = undisturbed(recipe)
    dice = random.Random(number)
    # All the kills of a run together take less than the run, so that they meet it alive.
    ways: list[dict[str, Any]] = [{"seconds": dice.uniform(0.02, seconds / any_moment)} for _ in range(any_moment)]
    ways += [{"kill_at_call": dice.randrange(1, 45)} for _ in range(inside_a_save)]
    dice.shuffle(ways)
    met = sum(killed(trainings, run, photos, recipe, **way) for way in ways)
    assert met >= min(inside_a_save + 1, len(ways)), "the run was done before it was killed"
    equal_at_the_end(trainings, run, photos, recipe, whole, sums_of)


@pytest.mark.parametrize(("number", "case"), list(enumerate(CASES)))
def test_a_killed_run_ends_with_the_same_bits(
    number: int,
    case: tuple[str, int, int],
    trainings: Any,
    undisturbed: Any,
    photos: Path,
    tmp_path: Path,
    sums_of: Sums,
) -> None:
    kill_and_compare(number, case, trainings, undisturbed, photos, tmp_path / "run", sums_of)


@pytest.mark.slow
@pytest.mark.parametrize(("number", "case"), [(100 + i, case) for i, case in enumerate(LONG)])
def test_a_run_that_is_killed_again_and_again(
    number: int,
    case: tuple[str, int, int],
    trainings: Any,
    undisturbed: Any,
    photos: Path,
    tmp_path: Path,
    sums_of: Sums,
) -> None:
    kill_and_compare(number, case, trainings, undisturbed, photos, tmp_path / "run", sums_of)


@pytest.mark.parametrize("recipe", RECIPES)
def test_two_resumes_in_one_epoch(
    recipe: str, trainings: Any, undisturbed: Any, photos: Path, tmp_path: Path, sums_of: Sums
) -> None:
    """An epoch has 6 steps; these kills are in the second one and before the first step of the third."""
    run = tmp_path / "run"
    assert [killed(trainings, run, photos, recipe, kill_at_step=step) for step in (8, 10, 12)] == [1, 1, 1]
    equal_at_the_end(trainings, run, photos, recipe, undisturbed(recipe)[0], sums_of)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("validation", [1, 4])
def test_a_stop_in_a_validation_keeps_the_weights_that_are_trained(
    validation: int, recipe: str, trainings: Any, undisturbed: Any, photos: Path, tmp_path: Path, sums_of: Sums
) -> None:
    """There the network may have its running average in place; the last one comes after statistics taken anew."""
    run = tmp_path / "run"
    trainings.start(run, photos, recipe=recipe, stop_in_validation=validation, save_seconds=1000.0)
    assert trainings.wait() == 143
    step = min(6 * validation, 21)
    assert f"stopped by SIGTERM after step {step} of 21" in trainings.stderr(run).read_text()
    equal_at_the_end(trainings, run, photos, recipe, undisturbed(recipe)[0], sums_of)


def test_the_hard_recipes_have_what_is_hard(undisturbed: Any) -> None:
    """Else the tests above would prove less than they say."""
    hard, half = (undisturbed(name)[0] for name in ("hard", "half"))
    last = hard / "checkpoints" / (hard / "checkpoints" / "last").read_text().strip()
    model, trained = (weights.load(last / f"{name}.safetensors") for name in ("model", "training"))
    assert not torch.equal(model["conv.weight"], trained["conv.weight"])
    state = json.loads((last / "state.json").read_text())
    assert state["parts"] == 2 and 0 < state["plateau"]["warmed"] < 18
    norms = [json.loads(line)["norms"] for line in (hard / "gradients.jsonl").read_text().splitlines()]
    assert len(norms) == 4 and all(len(line) == 6 and min(line.values()) > 0 for line in norms)
    scales = {
        json.loads((step / "state.json").read_text())["scale"][0] for step in (half / "checkpoints").glob("step-*")
    }
    assert scales and 2.0**14 not in scales
    overflows = [json.loads(line)["norms"] for line in (half / "gradients.jsonl").read_text().splitlines()]
    assert all(isinstance(norm, float) for line in overflows for norm in line.values())


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
    undisturbed: Any,
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
    assert sums_of(run) == sums_of(undisturbed()[0])


def wait_for_steps(stderr: Path, run: Path, more: float = 0.12) -> None:
    """Until the training said what it trains, and a moment more."""
    have = stderr.read_text().count("recipe") if stderr.exists() else 0
    for _ in range(400):
        time.sleep(0.025)
        if stderr.exists() and stderr.read_text().count("recipe") > have:
            break
    time.sleep(more)


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


def check_moment(number: int, trainings: Any, undisturbed: Any, photos: Path, run: Path, sums_of: Sums) -> None:
    """A signal at any moment of the training; what was done before it is done, what was not goes on."""
    dice = random.Random(number)
    wish = dice.choice((signal.SIGTERM, signal.SIGINT))
    recipe = dice.choice(RECIPES)
    pid = trainings.start(run, photos, recipe=recipe, slow=0.01, save_seconds=1000.0)
    wait_for_steps(trainings.stderr(run), run, dice.uniform(0.0, 0.3))
    begin = time.monotonic()
    os.kill(pid, wish)
    assert trainings.wait() == 128 + wish
    assert time.monotonic() - begin < 5
    assert f"convatlas: stopped by {wish.name} after step " in trainings.stderr(run).read_text()
    equal_at_the_end(trainings, run, photos, recipe, undisturbed(recipe)[0], sums_of)


@pytest.mark.parametrize("number", range(2))
def test_a_signal_at_any_moment(
    number: int, trainings: Any, undisturbed: Any, photos: Path, tmp_path: Path, sums_of: Sums
) -> None:
    check_moment(number, trainings, undisturbed, photos, tmp_path / "run", sums_of)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(100, 120))
def test_a_signal_at_twenty_moments(
    number: int, trainings: Any, undisturbed: Any, photos: Path, tmp_path: Path, sums_of: Sums
) -> None:
    check_moment(number, trainings, undisturbed, photos, tmp_path / "run", sums_of)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=8m", "convatlas-test", str(place)]
    try:
        subprocess.run(mount, check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        pytest.skip("no tmpfs can be mounted here (that takes root): training on a disk that is full was not tested")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True, capture_output=True, timeout=20)


def test_a_disk_that_is_full(small_disk: Path, trainings: Any, photos: Path, tmp_path: Path, sums_of: Sums) -> None:
    """8 MB hold one checkpoint of 5 MB and no second one."""
    run, whole = small_disk / "run", tmp_path / "whole"
    said = tmp_path / "said"
    request: dict[str, Any] = {"network": "wide", "save_seconds": 1000.0, "stderr": str(said)}
    trainings.start(run, photos, **request)
    assert trainings.wait() == 1
    line = said.read_text().splitlines()[-1]
    assert line.startswith(f"convatlas: cannot write {run}/checkpoints/tmp-step-000000012-"), line
    assert "No space left on device" in line and "MB are free there; free some space" in line, line
    assert "step-000000006 is whole, " in line and "--resume` goes on from it" in line, line
    assert sorted(p.name for p in (run / "checkpoints").iterdir() if p.is_dir()) == ["step-000000006"]
    found = Checkpoints(run).newest()
    assert found is not None and found[1].step == 6
    weights.load(found[0] / "model.safetensors")
    subprocess.run(["mount", "-o", "remount,size=64m", str(small_disk)], check=True, capture_output=True, timeout=20)
    trainings.start(run, photos, **request)
    assert trainings.wait() == 0, said.read_text()
    trainings.start(whole, photos, **request)
    assert trainings.wait() == 0
    assert sums_of(run) == sums_of(whole)


def test_a_file_that_may_not_grow_leaves_the_last_good_checkpoint(
    trainings: Any, undisturbed: Any, photos: Path, tmp_path: Path, sums_of: Sums
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
    assert sums_of(run) == sums_of(undisturbed()[0])
