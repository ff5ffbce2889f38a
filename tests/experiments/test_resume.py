"""The proof of resuming: it finds equal runs equal and a changed one different, and refuses what proves nothing."""

import json
from pathlib import Path

import pytest

from convatlas.errors import UsageError
from convatlas.experiments.answers import Kill, Resumed, Sum
from convatlas.experiments.resume import as_text, resume, sums_of, verdict


def run_folder(folder: Path, weights: bytes = b"w", seconds: float = 1.0, seed: int = 0) -> Path:
    step = folder / "checkpoints" / "step-000000004"
    step.mkdir(parents=True)
    for name in ("last", "best"):
        (folder / "checkpoints" / name).write_text(f"{step.name}\n")
    (step / "model.safetensors").write_bytes(weights)
    (step / "optimiser.safetensors").write_bytes(b"o")
    (step / "state.json").write_text(json.dumps({"step": 4, "seconds": seconds}))
    (folder / "log.jsonl").write_text("{}\n")
    (folder / "config.json").write_text(json.dumps({"seed": seed}))
    return folder


def test_sums_tell_what_differs_and_times_do_not_count(tmp_path: Path) -> None:
    whole = sums_of(run_folder(tmp_path / "a"))
    assert sums_of(run_folder(tmp_path / "b", seconds=9.0)) == whole
    other = sums_of(run_folder(tmp_path / "c", weights=b"v"))
    assert [k for k in whole if other[k] != whole[k]] == ["weights", "best weights"]
    seeded = sums_of(run_folder(tmp_path / "d", seed=1))
    assert [k for k in whole if seeded[k] != whole[k]] == ["random state (seed and position)"]


def made(killed: str) -> Resumed:
    kills = (Kill(1, 3.0, False), Kill(2, 2.5, True))
    return Resumed(
        "lenet5_relu", "digits", 12, 0, kills, (Sum("weights", "aa", killed), Sum("log", "b", "b")), 20.0, ()
    )


def test_the_verdict_names_what_differs() -> None:
    assert verdict(made("aa")) == (
        "Equal to the last bit: lenet5_relu on digits, killed with SIGKILL 2 times, 1 of them inside a save, ended as "
        "the training that was left alone. It took 20.0 s."
    )
    assert verdict(made("cc")) == (
        "Not equal: lenet5_relu on digits, killed 2 times, 1 of them inside a save, ended with another weights."
    )
    assert "DIFFERENT" in as_text(made("cc")) and "DIFFERENT" not in as_text(made("aa"))


def test_what_proves_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        resume("digits", tmp_path, kills=0)
    assert str(error.value) == "--kills 0 proves nothing; give 1 or more"
    (tmp_path / "mine").write_text("")
    with pytest.raises(UsageError) as error:
        resume("digits", tmp_path)
    assert str(error.value) == f"{tmp_path} is not empty; choose another --out, this experiment starts from nothing"


@pytest.mark.slow
def test_a_killed_training_is_proven_equal(tmp_path: Path) -> None:
    found = resume("digits", tmp_path / "runs", kills=2, settings=("epochs=4",))
    assert found.equal and len(found.kills) == 2
