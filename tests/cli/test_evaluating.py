"""`convatlas evaluate` as a user types it: one classifier, several, views, and what is written."""

import csv
import json
from pathlib import Path

import pytest

from convatlas.cli import main
from convatlas.data import open_data

Capture = pytest.CaptureFixture[str]
KEYS = {"correct", "images", "top1", "top5_correct", "top5", "interval", "unreadable", "view", "data"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("runs")
    for seed in (1, 2, 3):
        line = f"train lenet5_relu digits --out {folder}/{seed} --seed {seed} --set epochs=1 --device cpu"
        assert main(line.split()) == 0
    return [f"{folder}/{seed}" for seed in (1, 2, 3)]


def answer(capsys: Capture, *words: str) -> dict[str, object]:
    capsys.readouterr()
    assert main(["evaluate", *words, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_one_classifier_answers_with_the_same_keys_in_every_view(runs: list[str], capsys: Capture) -> None:
    images = len(open_data("digits").splits["test"])
    for view in ("center", "ten-crop", "dense 256", "multi-scale 224,256"):
        found = answer(capsys, runs[0], "digits", "--view", view)
        assert found.keys() == KEYS
        assert found["view"] == view and found["images"] == images


def test_several_classifiers_answer_together(runs: list[str], capsys: Capture) -> None:
    alone = [answer(capsys, run, "digits") for run in runs]
    found = answer(capsys, *runs, "digits", "--per-class")
    members = found["members"]
    assert isinstance(members, list) and [m["source"] for m in members] == runs
    assert [m["correct"] for m in members] == [a["correct"] for a in alone]
    assert found["mean_top1"] == pytest.approx(sum(float(str(a["top1"])) for a in alone) / 3)
    classes = found["per_class"]
    assert isinstance(classes, list) and len(classes) == 10
    assert sum(c["correct"] for c in classes) == found["correct"]
    assert found.keys() > KEYS

    assert main(["evaluate", *runs, "digits"]) == 0
    told = capsys.readouterr().out
    last = next(line for line in told.splitlines() if line.startswith("ensemble of 3 "))
    assert f" {found['correct']} of {found['images']} (" in last
    assert "mean of the single ones" in told and "McNemar's exact p" in told


def test_answers_are_written_and_classes_counted(runs: list[str], tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "answers.csv"
    capsys.readouterr()
    assert main(["evaluate", runs[0], "digits", "--answers", str(file), "--per-class"]) == 0
    told = capsys.readouterr().out
    with file.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    right = sum(row["right"] == "1" for row in rows)
    assert f"top-1  {right} of {len(rows)} (" in told
    assert file.read_bytes() == (Path(runs[0]) / "answers.csv").read_bytes()
    labels = [row for row in rows if row["label"] == "7"]
    assert f"{sum(r['right'] == '1' for r in labels)} of {len(labels)} (" in told.partition("class")[2]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "evaluate",
            "nothing was given; give a run folder or a bundle, or several, and then the data, like `convatlas "
            "evaluate runs/lenet digits`",
        ),
        (
            "evaluate digits",
            "only 'digits' was given; give a run folder or a bundle, or several, and then the data, like `convatlas "
            "evaluate runs/lenet digits`",
        ),
        ("evaluate {run} digits --workers -1", "workers is -1; give 0 (load in this process) or more"),
        ("evaluate {run} digits --view ten-corp", "no test view named 'ten-corp'; did you mean ten-crop?"),
    ],
)
def test_mistakes_are_one_line(line: str, message: str, runs: list[str], capsys: Capture) -> None:
    capsys.readouterr()
    assert main(line.format(run=runs[0]).split()) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"convatlas: {message}\n")
