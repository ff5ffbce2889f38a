"""A checkpoint that is written in a thread: what went wrong is told by the next call, and never swallowed (R4)."""

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

from convatlas.errors import SaveFailed, Stopped
from convatlas.train import loop
from convatlas.train.checkpoint import Checkpoints, Snapshot, State
from convatlas.train.saver import Saver


def moment(step: int) -> Snapshot:
    return Snapshot(State(step=step), {"weight": torch.full((2,), float(step))}, {})


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    found = Checkpoints(tmp_path / "run")
    found.make()
    return found


def refuse(*_: Any) -> None:
    raise SaveFailed("cannot write it: No space left on device")


def test_a_save_goes_on_beside_the_training(checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch) -> None:
    go, save = threading.Event(), Checkpoints.save
    monkeypatch.setattr(Checkpoints, "save", lambda self, m: (go.wait(5), save(self, m))[1])
    saver = Saver(checkpoints)
    saver.save(moment(1))  # comes back although nothing is on the disk yet
    assert checkpoints.newest() is None
    go.set()
    saver.wait()
    found = checkpoints.newest()
    assert found is not None and found[1].step == 1
    saver.close()


@pytest.mark.parametrize("call", ["save", "wait"])
def test_a_failure_is_raised_once_by_the_next_call(
    call: str, checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    saver = Saver(checkpoints)
    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "save", refuse)
        saver.save(moment(1))
        with pytest.raises(SaveFailed, match="No space left"):
            saver.save(moment(2)) if call == "save" else saver.wait()
    saver.save(moment(3))
    saver.wait()
    saver.close()
    assert capsys.readouterr().err == ""
    found = checkpoints.newest()
    assert found is not None and found[1].step == 3


def test_a_failure_that_nobody_waited_for_is_told(
    checkpoints: Checkpoints, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where the training ends for another reason while a save runs."""
    monkeypatch.setattr(Checkpoints, "save", refuse)
    saver = Saver(checkpoints)
    saver.save(moment(1))
    saver.close()
    assert capsys.readouterr().err == "convatlas: cannot write it: No space left on device\n"


@pytest.mark.parametrize("failing", [2, 4, 21, 24])
def test_a_training_stops_at_the_next_save_the_next_stop_or_its_end(
    failing: int, quick: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sums_of: Any
) -> None:
    """Saves 6, 12, 18 and the last are at an epoch's end; there are 20 or more with one after each step."""
    quick(tmp_path / "whole", save_seconds=0.0)
    run, calls = tmp_path / "run", 0
    save = Checkpoints.save

    def counted(self: Checkpoints, moment: Snapshot) -> None:
        nonlocal calls
        calls += 1
        if calls == failing:
            with monkeypatch.context() as patch:
                full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                patch.setattr("convatlas.weights.save", lambda *_: (_ for _ in ()).throw(full))
                save(self, moment)
        save(self, moment)

    monkeypatch.setattr(Checkpoints, "save", counted)
    if failing == 24:  # there is none of that number: nothing fails
        quick(run, save_seconds=0.0)
    else:
        with pytest.raises(SaveFailed) as caught:
            quick(run, save_seconds=0.0)
        assert f"cannot write {run}/checkpoints/step-" in str(caught.value)
        assert "No space left on device" in str(caught.value) and " is whole, " in str(caught.value)
        quick(run, save_seconds=0.0, resume=True)
    assert sums_of(run) == sums_of(tmp_path / "whole")


def test_a_stop_tells_of_a_save_that_failed(quick: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`everything is saved` must not be said where it is not."""
    obey = loop.Training.obey

    def signalled(self: loop.Training) -> None:
        if self.state.step == 3:
            self.wish.signal = 15  # type: ignore[assignment]
        obey(self)

    monkeypatch.setattr(loop.Training, "obey", signalled)
    monkeypatch.setattr(Checkpoints, "save", refuse)
    with pytest.raises(SaveFailed) as caught:
        quick(tmp_path / "run")
    assert not isinstance(caught.value, Stopped)
    assert str(caught.value) == "cannot write it: No space left on device; there is no earlier checkpoint"
