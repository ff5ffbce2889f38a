"""The files of a run folder: read back as written, and a line for each that cannot be."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from convatlas.errors import BadCheckpoint
from convatlas.paper import Recipe
from convatlas.result import Result, read_results
from convatlas.train import read_config, read_log
from convatlas.train.run import cut_back, how_to_resume, name_recipe, state_of, training_result

Quick = Callable[..., Result]

A = Recipe(epochs=10, lr=0.1, where="section 1")
B = Recipe(iterations=64_000, lr=0.1, drops=(3, 4), schedule="steps")


@pytest.mark.parametrize(
    ("recipe", "name"),
    [
        (A, "a"),
        (dataclasses.replace(A, where="elsewhere", assumed=("lr",)), "a"),
        (dataclasses.replace(A, lr=0.05), "a with lr=0.05"),
        (dataclasses.replace(B, drops=(5,), batch=64), "b with batch=64, drops=5"),
        (dataclasses.replace(B, iterations=None, epochs=2), "b with epochs=2, iterations=none"),
    ],
)
def test_a_recipe_is_named_after_the_nearest_one(recipe: Recipe, name: str) -> None:
    assert name_recipe(recipe, {"a": A, "b": B}, "a") == name


def test_what_a_run_folder_holds(quick: Quick, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = quick(run)
    assert sorted(p.name for p in run.iterdir()) == [
        "README.md",
        "answers.csv",
        "checkpoints",
        "clock.jsonl",
        "config.json",
        "confusion.csv",
        "environment.json",
        "log.jsonl",
        "results.json",
        "worst.json",
    ]
    assert read_results(run / "results.json") == [result] == [training_result(run)]
    config = read_config(run)
    assert config.recipe_name == result.recipe
    assert config.data.images == {"train": 44, "validation": 4, "test": 12}
    assert len(read_log(run)) == 4
    assert "seconds" not in (run / "log.jsonl").read_text()
    assert (run / "clock.jsonl").read_text().count("seconds") == 4


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (None, "config.json is missing; "),
        ("{", "config.json cannot be read: Input data was truncated"),
        ('{"seed": 0}', "config.json cannot be read: Object missing required field `spec`"),
    ],
)
def test_a_config_that_cannot_be_read(content: str | None, line: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(BadCheckpoint) as caught:
        read_config(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}/{line}")


def test_a_log_line_that_cannot_be_read(quick: Quick, tmp_path: Path) -> None:
    quick(tmp_path / "run")
    log = tmp_path / "run" / "log.jsonl"
    log.write_text(log.read_text() + "{}\n")
    with pytest.raises(BadCheckpoint) as caught:
        read_log(tmp_path / "run")
    assert str(caught.value) == f"{log}, line 5: Object missing required field `epoch`"


def test_results_that_cannot_be_read(tmp_path: Path) -> None:
    assert training_result(tmp_path) is None
    (tmp_path / "results.json").write_text("nonsense\n")
    with pytest.raises(BadCheckpoint) as caught:
        training_result(tmp_path)
    assert str(caught.value).startswith(f"results cannot be read: {tmp_path}/results.json, line 1: ")


def test_a_log_is_cut_back_and_a_short_one_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text("one\ntwo\nhal")
    cut_back(log, 4)
    assert log.read_text() == "one\n"
    assert capsys.readouterr().err == ""
    cut_back(log, 8)
    assert log.read_text() == "one\n"
    assert capsys.readouterr().err == (
        f"convatlas: {log} has 4 bytes, 8 were written; its missing lines stay missing\n"
    )


def test_how_to_resume_is_what_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Path("runs/a b")
    monkeypatch.setattr("sys.argv", ["/usr/bin/convatlas", "train", "lenet5", "digits", "--out", "runs/a b"])
    assert how_to_resume(run) == "`convatlas train lenet5 digits --out 'runs/a b' --resume`"
    monkeypatch.setattr("sys.argv", ["/usr/bin/convatlas", "train", "lenet5", "digits", "--resume", "--out", "x"])
    assert how_to_resume(run) == "`convatlas train lenet5 digits --resume --out x`"
    monkeypatch.setattr("sys.argv", ["study.py"])
    assert how_to_resume(run) == "train(..., 'runs/a b', resume=True)"


def test_a_start_that_was_killed_at_once_is_new(tmp_path: Path) -> None:
    assert state_of(tmp_path / "none") == state_of(tmp_path) == "new"
    (tmp_path / ".config.json.12.tmp").write_text("{")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "lock").touch()
    assert state_of(tmp_path) == "new"
    (tmp_path / "checkpoints" / "step-000000003").mkdir()
    assert state_of(tmp_path) == "other"
    (tmp_path / "config.json").write_text("{}")
    assert state_of(tmp_path) == "run"
