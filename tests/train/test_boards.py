"""TensorBoard gets the curves of the log, once each, also after a resume."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from convatlas.errors import MissingExtra
from convatlas.result import Result
from convatlas.train import Options, boards, read_log, train


def test_without_tensorboard_nothing_begins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra) as caught:
        train("lenet5", "digits", tmp_path / "run", options=Options(tensorboard=True))
    assert str(caught.value) == (
        "--tensorboard needs tensorboard, which is not installed; pip install 'convatlas[tensorboard]'"
    )
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is None, reason="tensorboard is not installed")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_curves_are_the_logs(quick: Callable[..., Result], tmp_path: Path) -> None:
    run = tmp_path / "run"
    quick(run)
    written = read_log(run)
    for _ in range(2):  # as a training does that is killed after its second epoch's line and resumed
        board = boards.Board(run, 0)
        for line in written:
            board.epoch(line, 100.0)
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    loss = [(e.step, e.value) for e in events.Scalars("loss/train")]
    assert loss == [(e.step, pytest.approx(e.train_loss, rel=1e-6)) for e in written]
    errors = [e.value for e in events.Scalars("error/validation")]
    assert errors == [
        pytest.approx(1 - e.validation.correct / e.validation.images, abs=1e-6) for e in written if e.validation
    ]
