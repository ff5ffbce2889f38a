"""Several processes train one network and count every image once, and a hung or killed one ends with a message (R9)."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convatlas.data import open_data
from convatlas.errors import UsageError
from convatlas.result import read_results
from convatlas.train import read_log
from convatlas.train.processes import Processes, seconds


def test_one_alone_gives_back_what_it_gets() -> None:
    alone = Processes()
    assert alone.first and alone.told(3) == 3 and alone.gathered("x") == ["x"] and alone.share == (0, 1)


@pytest.mark.parametrize("given", ["soon", "0", "-1", "nan"])
def test_a_patience_that_is_none(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVATLAS_TIMEOUT", given)
    with pytest.raises(UsageError) as caught:
        seconds()
    assert str(caught.value) == (
        f"CONVATLAS_TIMEOUT is {given!r}; give the seconds to wait for another process, above 0"
    )


def test_each_epoch_counts_every_image_once(trainings: Any, photos: Path, tmp_path: Path, sums_of: Any) -> None:
    """Also the one that cannot be read, which only one of the processes meets."""
    sizes = {name: len(split) for name, split in open_data(photos).splits.items()}
    logs = []
    for of in (1, 2, 3):
        run = tmp_path / f"by-{of}"
        trainings.start(run, photos, processes=of, save_seconds=1000.0)
        assert trainings.wait() == 0, trainings.stderr(run).read_text()
        logs.append(read_log(run))
        result = read_results(run / "results.json")[-1]
        assert result.accuracy is not None and result.accuracy.images == sizes["test"]
    for log in logs:
        full = log[:3]  # the fourth epoch is half a one
        assert [e.train_images for e in full] == [sizes["train"] - 1] * 3
        assert all(e.validation is not None and e.validation.images == sizes["validation"] for e in log)
        assert [len(e.bad) for e in log] == [1, 0, 0, 0]
    # Without batch norm's shares of a batch the first losses would be equal to the last bits; they are near.
    assert logs[1][0].train_loss == pytest.approx(logs[0][0].train_loss, rel=0.2)


def wait_until(holds: Callable[[], bool], seconds: float = 40) -> None:
    begin = time.monotonic()
    while not holds():
        assert time.monotonic() - begin < seconds
        time.sleep(0.05)


def wait_for_checkpoint(run: Path, step: int) -> None:
    wait_until(lambda: any((run / "checkpoints").glob(f"step-{step:09d}")))


def test_two_processes_killed_and_resumed_end_with_the_same_bits(
    trainings: Any, photos: Path, tmp_path: Path, sums_of: Any
) -> None:
    trainings.start(tmp_path / "whole", photos, processes=2)
    assert trainings.wait() == 0
    run = tmp_path / "run"
    for wanted, steps in ((0, 5), (1, 9)):
        pid = trainings.start(
            run, photos, processes=2, wanted=wanted, slow=0.1, environment={"CONVATLAS_TIMEOUT": "20"}
        )
        wait_for_checkpoint(run, steps)
        os.kill(pid, signal.SIGKILL)
        assert trainings.wait() != 0
    trainings.start(run, photos, processes=2)
    assert trainings.wait() == 0, trainings.stderr(run).read_text()
    assert sums_of(run) == sums_of(tmp_path / "whole")


def test_a_signal_to_one_of_them_stops_all_after_the_same_step(trainings: Any, photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pid = trainings.start(run, photos, processes=2, wanted=1, slow=0.1, save_seconds=1000.0)
    wait_until(lambda: trainings.stderr(run).exists() and "iterations" in trainings.stderr(run).read_text())
    time.sleep(0.3)
    os.kill(pid, signal.SIGTERM)
    assert trainings.wait() == 143
    said = trainings.stderr(run).read_text().splitlines()
    stops = [line for line in said if "stopped by SIGTERM after step" in line]
    assert len(stops) == 2 and len(set(stops)) == 1


def test_a_process_that_hangs_is_named(trainings: Any, photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    pid = trainings.start(
        run, photos, processes=2, wanted=1, stuck="1", slow=0.4, environment={"CONVATLAS_TIMEOUT": "4"}
    )
    wait_until(lambda: trainings.stderr(run).exists() and "waited in vain" in trainings.stderr(run).read_text())
    text = trainings.stderr(run).read_text()
    os.kill(pid, signal.SIGKILL)
    assert trainings.wait() != 0
    line = next(line for line in text.splitlines() if "waited in vain" in line)
    assert line.startswith(
        "convatlas: process 1 of 2 waited in vain for another one (CONVATLAS_TIMEOUT is 4 s); last seen: "
    )
    assert "process 2: step " in line and line.endswith(
        "start all again with --resume, or let torchrun do it with --max-restarts"
    )


SCRIPT = """
import os, signal, sys
import torch
torch.set_num_threads(1)
from convatlas.cli import main
from convatlas.train.updating.step import Stepper
step = Stepper.step
def dying(self, batch, rate, number, *rest):
    if number == 25 and os.environ["RANK"] == "2" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0":
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch, rate, number, *rest)
Stepper.step = dying
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_torchrun_restarts_what_was_killed_and_the_bits_are_the_same(tmp_path: Path, sums_of: Any) -> None:
    (tmp_path / "killed.py").write_text(SCRIPT)
    (tmp_path / "whole.py").write_text(SCRIPT.replace("number == 25", "False"))
    typed = ["train", "lenet5_relu", "digits", "--set", "epochs=3", "--set", "drops=2", "--device", "cpu", "--resume"]
    for name, restarts in (("whole", 0), ("killed", 1)):
        launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3"]
        launch += [f"--max-restarts={restarts}", str(tmp_path / f"{name}.py")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "CONVATLAS_TIMEOUT": "30"}
        done = subprocess.run(
            [*launch, *typed, "--out", str(tmp_path / name)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=280,
        )
        assert done.returncode == 0, done.stderr[-3000:]
    assert sums_of(tmp_path / "killed") == sums_of(tmp_path / "whole")
