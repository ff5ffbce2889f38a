"""Run folders with the files that a comparison reads, written through the package's own dataclasses."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from convatlas.result import Accuracy, DataStamp, Machine, Result, Timing, lines

MACHINE = Machine("Processor X", 2, 8_000_000_000, "Linux x86_64", "cpu", 2)
STAMP = DataStamp("digits", "test", 360, "ab" * 32)
Runs = Callable[..., Path]


def result(kind: str, when: int, **fields: object) -> Result:
    """A line of results.json; `when` orders it in time."""
    known = Result(
        kind="training",
        network="lenet5",
        input=(1, 32, 32),
        classes=2,
        params=61_706,
        macs=416_520,
        machine=MACHINE,
        versions={"torch": "2.14.1"},
        when=f"2026-11-24T10:{when:02d}:00+00:00",
        command=f"convatlas {kind} {when}",
        method=f"{kind} in a sentence",
        weights_bytes=247_000,
    )
    return replace(known, kind=kind, **fields)


def evaluation(correct: int, when: int = 20, data: DataStamp = STAMP, unreadable: int = 0, **fields: object) -> Result:
    accuracy = Accuracy(correct, data.images - unreadable, data.images - unreadable, unreadable)
    return result("evaluation", when, data=data, accuracy=accuracy, **fields)


def measurement(ms: float, when: int = 30, batches: tuple[int, ...] = (1, 8), **fields: object) -> Result:
    timings = tuple(Timing(b, ms * b, 0.9 * ms * b, 1.2 * ms * b, 50) for b in batches)
    return result("measurement", when, timings=timings, **fields)


def write_answers(folder: Path, rights: str, labels: str = "", names: Sequence[str] = ()) -> None:
    """answers.csv with an image a character: 1 right, 0 wrong, "-" unreadable; labels by letter, else a and b."""
    lines = ["image,label,answer,right,probability of answer,probability of label"]
    for number, right in enumerate(rights):
        label = labels[number] if labels else "ab"[number % 2]
        name = names[number] if names else f"test image {number}"
        answer = label if right == "1" else "?"
        if right != "-":
            lines.append(f"{name},{label},{answer},{right},0.9,{0.9 if right == '1' else 0.1}")
    (folder / "answers.csv").write_text("\n".join(lines) + "\n")


def answered(run_folder: Runs, name: str, rights: str, *more: Result, **fields: object) -> Path:
    """A run whose evaluation and answers.csv agree."""
    data = replace(STAMP, images=len(rights), **fields)
    folder = run_folder(name, evaluation(rights.count("1"), data=data, unreadable=rights.count("-")), *more)
    write_answers(folder, rights)
    return folder


@pytest.fixture
def run_folder(tmp_path: Path) -> Runs:
    def make(name: str, *results: Result) -> Path:
        folder = tmp_path / name
        (folder / "checkpoints").mkdir(parents=True)
        training = result("training", 10, recipe="lenet", epochs=12, seconds=81.5)
        (folder / "results.json").write_text(lines([training, *results]))
        config = {
            "spec": {"network": "lenet5", "classes": ["a", "b"]},
            "recipe": {"lr": 0.1, "assumed": ["lr"]},
            "data": {"source": "digits", "rule": "every fifth image is a test image"},
        }
        (folder / "config.json").write_text(json.dumps(config))
        bad = [{"path": "x.png", "reason": "truncated"}]
        epochs = [
            {"epoch": 1, "train_correct": 60, "train_images": 100, "validation": {"correct": 7, "images": 10}},
            {
                "epoch": 2,
                "train_correct": 80,
                "train_images": 100,
                "validation": {"correct": 9, "images": 10},
                "bad": bad,
            },
        ]
        (folder / "log.jsonl").write_text("".join(f"{json.dumps(e)}\n" for e in epochs))
        return folder

    return make
