"""Run folders as training, evaluation and measurement leave them, and a browser to look at their page with."""

import csv
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from convatlas.compare import Comparison, Limits, choose, compare
from convatlas.report import report
from convatlas.result import Accuracy, DataStamp, Machine, Result, Timing, lines

MACHINE = Machine("Processor X", 2, 8_000_000_000, "Linux x86_64", "cpu", 2)
STAMP = DataStamp("digits", "test", 360, "ab" * 32)
WriteRun = Callable[..., Path]
EVIL = '"><img src=x onerror=document.title="pwned"><script>document.title="pwned"<'
EVIL_CLASSES = [
    "</script><script>document.title='pwned'</script>",
    "\u202erotated\u202c",
    "🐈‍⬛",
    "{{7*7}}",
    "שלום",
    "a\0b",
]


def _write_run(
    folder: Path,
    correct: int,
    ms: float,
    words: str = "lenet5",
    classes: list[str] | None = None,
    answers: str = "",
) -> Path:
    (folder / "checkpoints").mkdir(parents=True)
    line = Result(
        kind="training",
        network=words,
        input=(1, 32, 32),
        classes=2,
        params=61_706 + correct,
        macs=int(416_520 * ms),
        machine=replace(MACHINE, processor=words),
        versions={"torch": "2.14.1"},
        when="2026-11-24T10:00:00+00:00",
        command=f"convatlas train {words}",
        method=f"trained, {words}",
        weights_bytes=247_000,
        recipe=words,
        epochs=2,
        seconds=80,
    )
    test = replace(line, kind="evaluation", data=replace(STAMP, name=words), accuracy=Accuracy(correct, 360, 360, 2))
    timings = tuple(Timing(b, ms * b, 0.9 * ms * b, 1.2 * ms * b, 50) for b in (1, 2, 4))
    measured = replace(line, kind="measurement", timings=timings)
    (folder / "results.json").write_text(lines([line, test, measured]))
    config = {
        "spec": {"classes": classes or ["a", "b"]},
        "recipe": {"lr": 0.1, "drops": [8, 11], "where": words, "assumed": ["lr"]},
        "data": {"source": words, "rule": f"every fifth image, {words}"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    counts = {"train_correct": 60, "train_images": 100, "validation": {"correct": 7, "images": 10}}
    (folder / "log.jsonl").write_text("".join(f"{json.dumps({'epoch': e, **counts})}\n" for e in (1, 2)))
    if answers:
        (folder / "answers.csv").write_text(answers)
    return folder


@pytest.fixture(scope="session")
def write_run() -> WriteRun:
    """write_run(folder, correct, ms): `words` stand in every field of free text."""
    return _write_run


def _answers(correct: int, names: list[str]) -> str:
    """360 answers, the first ones right, as the evaluation of a run leaves them."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["image", "label", "answer", "right", "probability of answer", "probability of label"])
    for i in range(360):
        right = i < correct
        label, answer = names[i % len(names)], names[(i + (not right)) % len(names)]
        writer.writerow([f"test image {i}", label, answer, int(right), 0.75, 0.75 if right else 0.2])
    return out.getvalue()


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    runs = tmp_path_factory.mktemp("runs")
    figures = {"a": (350, 0.1), "b": (355, 3.0)}
    return compare([_write_run(runs / n, k, ms, answers=_answers(k, ["a", "b"])) for n, (k, ms) in figures.items()])


@pytest.fixture(scope="session")
def page(plain: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "new" / "report.html"
    return report(plain, out, choice=choose(plain, Limits(max_ms=1)))


@pytest.fixture(scope="session")
def evil() -> tuple[str, list[str]]:
    """A name and class names that would do harm where they are not shown as text."""
    return EVIL, EVIL_CLASSES


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Path]:
    runs = tmp_path_factory.mktemp("runs")
    names = (EVIL, "\u202eb", "🐈 & co")
    told = [_answers(350 + i, EVIL_CLASSES) for i in range(3)]
    compared = compare(
        [_write_run(runs / n, 350 + i, 0.1 + i, EVIL, EVIL_CLASSES, told[i]) for i, n in enumerate(names)]
    )
    return compared, report(compared, runs / "report.html")


@pytest.fixture(scope="session")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not found:
        pytest.skip("no Chromium here: that the page draws its charts offline, without an error, is not tested")
    return found
