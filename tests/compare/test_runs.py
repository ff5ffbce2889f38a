"""Reading run folders and setting them side by side."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from convatlas.compare import Comparison, Epoch, Missing, compare
from convatlas.errors import BadCheckpoint, UsageError
from convatlas.record import from_json

from .conftest import MACHINE, STAMP, Runs, evaluation, measurement


def test_a_run_brings_its_newest_figures(run_folder: Runs) -> None:
    folder = run_folder("a", evaluation(340, 20), measurement(2.0, 30), evaluation(350, 40), measurement(1.0, 50))
    (entry,) = compare([folder]).entries
    assert entry.accuracy is not None and entry.accuracy.correct == 350
    assert [(t.batch, t.median_ms) for t in entry.timings] == [(1, 1.0), (8, 8.0)]
    assert [(s.kind, s.command[-2:]) for s in entry.sources] == [
        ("training", "10"),
        ("evaluation", "40"),
        ("measurement", "50"),
    ]
    assert (entry.recipe, entry.epochs, entry.seconds, entry.weights_bytes) == ("lenet", 12, 81.5, 247_000)
    assert (entry.classes, entry.source) == (("a", "b"), "digits")
    assert entry.split_rule == "every fifth image is a test image"
    assert entry.curve == (
        Epoch(1, pytest.approx(0.4), pytest.approx(0.3)),
        Epoch(2, pytest.approx(0.2), pytest.approx(0.1)),
    )
    assert entry.unreadable == 1


def test_the_test_split_counts_before_newer_validation_figures(run_folder: Runs) -> None:
    held_out = replace(STAMP, split="validation", digest="cd" * 32)
    (entry,) = compare([run_folder("a", evaluation(340, 20), evaluation(350, 40, held_out))]).entries
    assert entry.data == STAMP and entry.accuracy is not None and entry.accuracy.correct == 340


def test_images_and_machine_that_all_runs_share_count_before_newer_ones(run_folder: Runs) -> None:
    other, elsewhere = replace(STAMP, digest="ef" * 32), replace(MACHINE, processor="Processor Y")
    a = run_folder(
        "a", evaluation(340), evaluation(300, 40, other), measurement(2.0), measurement(9.0, 50, machine=elsewhere)
    )
    b = run_folder("b", evaluation(350), measurement(3.0))
    compared = compare([a, b])
    assert [e.accuracy.correct for e in compared.entries if e.accuracy] == [340, 350]
    assert [e.timings[0].median_ms for e in compared.entries] == [2.0, 3.0]
    assert compared.warnings == ()


def test_figures_of_different_images_or_machines_are_flagged(run_folder: Runs) -> None:
    a = run_folder("a", evaluation(340), measurement(2.0))
    other = replace(STAMP, name="photos", digest="ef" * 32, images=350)
    b = run_folder("b", evaluation(340, data=other), measurement(2.0, machine=replace(MACHINE, threads=1)))
    assert not compare([a, b]).comparable and compare([a]).comparable
    assert compare([a, b]).warnings == (
        "accuracies are not comparable, they are of different images: "
        "a: digits/test, 360 images, digest abababab; b: photos/test, 350 images, digest efefefef",
        "times are not comparable: a: Processor X, 2 threads, torch 2.14.1; b: Processor X, 1 thread, torch 2.14.1",
    )


def test_an_accuracy_of_validation_images_is_flagged_and_the_missing_commands_are_given(run_folder: Runs) -> None:
    folder = run_folder("my run", evaluation(340, data=replace(STAMP, split="validation")))
    compared = compare([folder])
    assert compared.warnings == (
        "my run: its accuracy is of validation images, which also chose its weights, so it flatters",
    )
    assert compared.missing == (
        Missing("my run", "test accuracy", f"convatlas evaluate '{folder}' digits"),
        Missing("my run", "forward time", f"convatlas measure '{folder}'"),
    )


def test_times_that_spread_widely_are_flagged(run_folder: Runs) -> None:
    noisy = measurement(1.0)
    noisy = replace(noisy, timings=(noisy.timings[0], replace(noisy.timings[1], high_ms=20.0)))
    assert compare([run_folder("a", evaluation(340), noisy)]).warnings == (
        "a: its times spread widely, quartiles 7.20 ms to 20.0 ms at batch 8; measure again when nothing else runs",
    )


def test_names_are_made_unique_by_their_parents(run_folder: Runs, tmp_path: Path) -> None:
    folders = [run_folder(name) for name in ("x/a", "y/a", "b")]
    assert [e.name for e in compare([*folders, tmp_path / "x" / ".." / "b"]).entries] == ["x/a", "y/a", "b"]


def test_text_and_markdown_show_every_run(run_folder: Runs) -> None:
    compared = compare([run_folder("a", evaluation(354), measurement(0.0936)), run_folder("b")])
    shown = compared.as_text()
    row = next(line for line in shown.splitlines() if line.startswith("a "))
    assert row.split("  ")[0] == "a"
    for part in ("354 of 360 (98.3 %)", "96.4 to 99.2 %", "61.7 k", "417 k", "247 kB", "0.0936 ms", "1 min 21 s"):
        assert part in row
    assert "Times: median forward pass, Processor X, 2 threads, torch 2.14.1." in shown
    assert f"b: forward time; `convatlas measure {compared.entries[1].folder}`" in shown
    assert compared.as_markdown().count("\n| ") == 3


def test_json_comes_back_as_the_comparison(run_folder: Runs) -> None:
    compared = compare([run_folder("a", evaluation(354), measurement(1.0)), run_folder("b")])
    assert from_json(Comparison, compared.as_json()) == compared


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        compare([tmp_path / "none"])
    assert str(caught.value) == (
        f"no run folder at {tmp_path}/none; `convatlas train NETWORK DATA --out {tmp_path}/none` makes one"
    )
    with pytest.raises(UsageError) as caught:
        compare([])
    assert str(caught.value) == "no run to compare; name one run folder or more, for example runs/*"


@pytest.mark.parametrize("content", [None, ""])
def test_a_run_without_results(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    with pytest.raises(BadCheckpoint) as caught:
        compare([tmp_path])
    assert str(caught.value) == (
        f"{tmp_path} holds no results; give a run that `convatlas train` finished (--resume ends a stopped one)"
    )


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]\n", b"null\n", b'{"kind": "training"}\n'])
def test_damaged_files_give_one_line(run_folder: Runs, content: bytes) -> None:
    for name in ("results.json", "config.json", "log.jsonl"):
        folder = run_folder(f"{name}-run")
        (folder / name).write_bytes(content)
        if name == "config.json" and content.startswith(b'{"kind"'):
            continue  # other fields than ours are passed over
        with pytest.raises(BadCheckpoint) as caught:
            compare([folder])
        assert str(folder / name) in str(caught.value) and "\n" not in str(caught.value)


def test_a_run_with_results_alone_can_be_compared(run_folder: Runs) -> None:
    folder = run_folder("a", evaluation(354))
    for name in ("config.json", "log.jsonl"):
        (folder / name).unlink()
    (entry,) = compare([folder]).entries
    assert entry.accuracy is not None and entry.curve == () and entry.classes == ()


def test_a_name_that_is_no_text_is_spelled_out(run_folder: Runs, tmp_path: Path) -> None:
    folder = run_folder("plain")
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/odd\xff"))
    folder.rename(odd)
    compared = compare([odd])
    assert compared.entries[0].name == "odd\\xff"
    assert json.loads(compared.as_json())["entries"][0]["name"] == "odd\\xff"


def test_comparing_and_choosing_import_no_torch(run_folder: Runs) -> None:
    folder = run_folder("a", evaluation(354), measurement(1.0))
    code = (
        "import sys; from convatlas.compare import Limits, choose, compare; "
        f"print(choose(compare([{str(folder)!r}]), Limits(max_ms=2)).pick); "
        "assert not {'torch', 'numpy', 'altair', 'jinja2'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("a\n", "")
