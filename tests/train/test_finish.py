"""What a finished run folder holds: files that agree with evaluate, whole after a kill, and the README."""

import csv
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from convatlas import files
from convatlas.data import open_data
from convatlas.errors import UsageError
from convatlas.paper import Recipe
from convatlas.record import from_json
from convatlas.result import Result, read_results
from convatlas.train import evaluate
from convatlas.train.run import Environment

Quick = Callable[..., Result]
WRITTEN = ("answers.csv", "answers-ten-crop.csv", "confusion.csv", "worst.json")


@pytest.fixture
def viewed(recipe: Recipe) -> Recipe:
    return replace(recipe, epochs=2, view="ten-crop", assumed=("lr", "batch"))


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_files_agree_with_each_other_and_with_evaluate(
    quick: Quick, photos: Path, viewed: Recipe, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    result = quick(run, recipe=viewed)
    split = open_data(photos, validation=viewed.validation).splits["test"]
    assert result.accuracy is not None and result.kind == "training" and result.accuracy.view == "center"

    told = rows(run / "answers.csv")
    assert [(r["image"], r["label"]) for r in told] == [
        (split.named(i), split.classes[label]) for i, label in enumerate(split.labels)
    ]
    assert sum(r["right"] == "1" for r in told) == result.accuracy.correct
    confusion = list(csv.reader((run / "confusion.csv").read_text().splitlines()))
    assert sum(int(confusion[i][i]) for i in range(1, 5)) == result.accuracy.correct
    assert sum(int(cell) for row in confusion[1:] for cell in row[1:]) == result.accuracy.images
    worst = json.loads((run / "worst.json").read_text())
    wrong = [r for r in told if r["right"] == "0"]
    assert sorted(m["image"] for m in worst) == sorted(r["image"] for r in wrong)
    assert [m["probability"] for m in worst] == sorted((m["probability"] for m in worst), reverse=True)

    second, first = read_results(run / "results.json")
    assert first == result and second.kind == "evaluation" and second.data == result.data
    assert second.accuracy is not None and second.accuracy.view == "ten-crop"
    again = evaluate(run, photos, device="cpu", view="ten-crop", answers=tmp_path / "again.csv")
    assert again.accuracy == second.accuracy
    assert (tmp_path / "again.csv").read_text() == (run / "answers-ten-crop.csv").read_text()


def without_times(readme: str) -> list[str]:
    """The page but for what depends on the clock: seconds, and the table and commands of starts."""
    before, _, after = readme.partition("## Starts")
    kept = before.splitlines() + after.partition("## Epochs")[2].splitlines()
    return [line for line in kept if " of weights; " not in line]


@pytest.mark.parametrize("number", range(1, 7))
def test_stopped_between_two_files_a_resume_ends_with_the_same_ones(
    quick: Quick, viewed: Recipe, tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of the six files in turn is the one whose write does not come about."""
    run, calm = tmp_path / "run", tmp_path / "calm"
    quick(calm, recipe=viewed)
    real, done = files.write, []

    def write(path: Path, content: str | bytes) -> None:
        if path.suffix in (".csv", ".md") or path.name in ("worst.json", "results.json"):
            done.append(path.name)
            if len(done) == number:
                raise KeyboardInterrupt
        real(path, content)

    monkeypatch.setattr(files, "write", write)
    with pytest.raises(KeyboardInterrupt):
        quick(run, recipe=viewed)
    monkeypatch.setattr(files, "write", real)
    assert not (run / "results.json").exists()
    resumed = quick(run, recipe=viewed, resume=True)
    for name in WRITTEN:
        assert (run / name).read_bytes() == (calm / name).read_bytes()
    ours, theirs = ((folder / "README.md").read_text() for folder in (run, calm))
    assert without_times(ours) == [line.replace(str(calm), str(run)) for line in without_times(theirs)]
    assert [(r.kind, r.accuracy) for r in read_results(run / "results.json")] == [
        (r.kind, r.accuracy) for r in read_results(calm / "results.json")
    ]
    assert quick(run, recipe=viewed, resume=True) == resumed


def test_the_readme_tells_the_run(quick: Quick, photos: Path, viewed: Recipe, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = quick(run, recipe=viewed, seed=3)
    page = (run / "README.md").read_text()
    accuracy, data = result.accuracy, result.data
    assert accuracy is not None and data is not None
    low, high = accuracy.interval
    share = f"{accuracy.correct} of {accuracy.images} ({100 * accuracy.top1:.1f} %)"
    assert f"| test | center | {share} | {100 * low:.1f} to {100 * high:.1f} % |" in page
    assert "| test | ten-crop | " in page
    assert "| lr | 0.1 | assumed |" in page and "| batch | 8 | assumed |" in page
    assert "| augment | flip |  |" in page
    assert data.digest in page and "seed 3." in page and str(photos) in page
    start = from_json(list[Environment], (run / "environment.json").read_bytes())[0]
    assert start.command in page and start.machine.processor in page and f"torch {start.versions['torch']}" in page
    assert f"convatlas train tiny {photos} --out {run} --resume" in page
    for row in rows(run / "answers.csv"):
        if row["right"] == "0":
            assert os.path.basename(row["image"]) in page  # noqa: PTH119
            break
    for name in ("apple", "pear", "plum", "quince"):
        assert f"| {name} | " in page
    for file in ("answers.csv", "confusion.csv", "worst.json", "config.json", "log.jsonl"):
        assert (run / file).is_file() and file in page


def test_a_long_log_is_thinned_and_keeps_the_best(quick: Quick, recipe: Recipe, tmp_path: Path) -> None:
    run = tmp_path / "run"
    quick(run, recipe=replace(recipe, epochs=40, schedule="constant", validation=0.3))
    table = (run / "README.md").read_text().partition("## Epochs")[2].partition("## By class")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ") and line[2].isdigit()]
    assert len(lines) in (30, 31) and lines[0].startswith("| 1 ") and lines[-1].startswith("| 40 ")
    assert f"{len(lines)} of 40 epochs; log.jsonl has all." in table
    assert sum("(best)" in line for line in lines) == 1


def test_a_view_that_the_network_has_not_is_refused_before_anything_is_written(
    quick: Quick, recipe: Recipe, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"^the network cannot be slid over larger images: "):
        quick(tmp_path / "run", recipe=replace(recipe, view="dense"))
    assert not (tmp_path / "run").exists()


def test_without_test_or_validation_images_only_the_readme_is_written(
    quick: Quick, recipe: Recipe, tmp_path: Path, photos: Path
) -> None:
    import shutil

    for name in ("apple", "pear"):
        shutil.copytree(photos / name, tmp_path / "data" / "train" / name)
    run = tmp_path / "run"
    plain = replace(recipe, schedule="constant", validation=0.0, epochs=1)
    result = quick(run, data=tmp_path / "data", recipe=plain)
    assert result.accuracy is None
    page = (run / "README.md").read_text()
    assert "not evaluated: the data has neither test nor validation images" in page and "By class" not in page
    assert not (run / "answers.csv").exists()
