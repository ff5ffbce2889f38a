"""The verbs compare, choose and report."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from convatlas.cli import main
from convatlas.result import lines

from ..compare.conftest import Runs, answered, evaluation, measurement, run_folder

__all__ = ["run_folder"]

GOOD, POOR = "1" * 50 + "0" * 10, "1" * 30 + "0" * 30


@pytest.fixture
def two(run_folder: Runs) -> tuple[str, str]:
    folders = [answered(run_folder, n, r, measurement(ms)) for n, r, ms in (("a", GOOD, 2.0), ("b", POOR, 1.0))]
    return str(folders[0]), str(folders[1])


def run(capsys: pytest.CaptureFixture[str], *line: str) -> tuple[int, str, str]:
    code = main(line)
    out, err = capsys.readouterr()
    return code, out, err


def test_compare_takes_every_kind_of_source(
    capsys: pytest.CaptureFixture[str], two: tuple[str, str], tmp_path: Path
) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "measurements.jsonl").write_text(lines([measurement(3.0, source="alexnet")]))
    line = ["compare", *two, str(tmp_path / "results"), "resnet18", "published:nin_cifar"]
    code, out, err = run(capsys, *line)
    assert (code, err) == (0, "")
    for mark in ("run", "measurement", "catalogue", "published"):
        assert f"  {mark} " in out
    code, out, _ = run(capsys, *line, "--json")
    told = json.loads(out)
    assert {e["mark"] for e in told["entries"]} == {"run", "measurement", "catalogue", "published"}
    assert [(d["a"], d["b"], d["verdict"]) for d in told["differences"]] == [("a", "b", "A is better")]
    assert run(capsys, *line, "--markdown")[1].startswith("| run | mark |")


def test_compare_says_whether_one_is_better(capsys: pytest.CaptureFixture[str], two: tuple[str, str]) -> None:
    assert "\na is better than b: 50 of 60 (83.3 %) against 30 of 60 (50.0 %) right" in run(capsys, "compare", *two)[1]


def test_the_gate_exits_1_when_b_is_worse(capsys: pytest.CaptureFixture[str], two: tuple[str, str]) -> None:
    a, b = two
    code, out, err = run(capsys, "compare", a, b, "--gate")
    assert (code, err) == (1, "convatlas: b does not pass the gate: accuracy\n")
    assert out.startswith("b against a: does not pass (accuracy)\n  accuracy  FAILED: 30 of 60")
    assert run(capsys, "compare", b, a, "--gate")[2] == "convatlas: a does not pass the gate: time\n"
    code, out, err = run(capsys, "compare", b, a, "--gate", "--max-slower", "2")
    assert (code, err) == (0, "") and out.startswith("a against b: passes\n")
    assert run(capsys, "compare", a, b, "--gate", "--max-drop", "0.5")[0] == 0
    code, out, _ = run(capsys, "compare", a, b, "--gate", "--json")
    assert code == 1 and json.loads(out)["failed"] == "accuracy"
    code, _, err = run(capsys, "compare", b, b, "--gate")
    assert (code, err) == (2, "convatlas: --gate takes two runs, A and B; got 1\n")


def test_an_option_of_the_gate_without_it(capsys: pytest.CaptureFixture[str], two: tuple[str, str]) -> None:
    code, _, err = run(capsys, "compare", *two, "--max-drop", "0.1")
    assert (code, err) == (2, "convatlas: --max-drop is an option of --gate; add --gate, or leave it out\n")


def test_choose_keeps_every_limit(capsys: pytest.CaptureFixture[str], two: tuple[str, str]) -> None:
    code, out, err = run(capsys, "choose", *two, "--max-ms", "1.5", "--batch", "1", "--max-mb", "1")
    assert (code, err) == (0, "")
    assert out.startswith("Of 2 measured runs, b is the most accurate within the budget (at most 1.5 ms at batch 1, ")
    assert "- Given up: a is 33.3 points more accurate, but 2.00 ms is 0.500 ms (33 %) over 1.50 ms." in out
    code, out, err = run(capsys, "choose", *two, "--max-joule", "2", "--max-memory-mb", "900", "--json")
    assert (code, err) == (
        1,
        "convatlas: no measured run fits the budget; raise a limit or train a smaller network\n",
    )
    told = json.loads(out)
    assert told["pick"] is None and (told["limits"]["max_joule"], told["limits"]["max_memory_mb"]) == (2, 900)
    assert {m["what"] for m in told["missing"]} == {"energy at batch 1", "peak memory at batch 1"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (["compare"], "no run folder given; name one or more, for example runs/*"),
        (["choose", "--max-ms", "5"], "no run folder given; name one or more, for example runs/*"),
        (["report"], "no run folder given; name one or more, for example runs/*"),
        (["choose", "--time", "30m"], "--time asks what to train on one data set; got 0 sources"),
        (["choose", "a", "b", "--time", "30m"], "--time asks what to train on one data set; got 2 sources"),
        (
            ["choose", "digits", "--time", "30m", "--max-ms", "5"],
            "--max-ms is about measured runs; leave it out with --time",
        ),
        (["report", "runs/a", "--lecture"], "--lecture takes no runs; got 1"),
        (
            ["choose", "resnet18"],
            "nothing to choose from: no accuracy was measured of any of these; give run folders too, which `convatlas "
            "train NETWORK DATA --out RUN` makes",
        ),
    ],
)
def test_command_lines_that_are_refused(capsys: pytest.CaptureFixture[str], line: list[str], message: str) -> None:
    assert run(capsys, *line) == (2, "", f"convatlas: {message}\n")


def test_choose_before_any_training_asks_for_a_proposal(monkeypatch: pytest.MonkeyPatch) -> None:
    from convatlas.cli import proposing

    asked: list[object] = []
    monkeypatch.setattr(proposing, "propose", lambda *given: asked.extend(given))
    assert main(["choose", "digits", "--time", "30m", "--archive", "kept", "--recalibrate", "--json"]) == 0
    assert asked == ["digits", "30m", Path("kept"), True, True]


def test_report_hands_on_its_options(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], two: tuple[str, str], tmp_path: Path
) -> None:
    given: dict[str, object] = {}
    room = import_module("convatlas.report")  # the package's own `report` is the function
    monkeypatch.setattr(room, "report", lambda found, out, **more: given.update(more, found=found) or out)
    out = str(tmp_path / "page.html")
    line = ["report", *two, "--out", out, "--lang", "zh", "--charts", str(tmp_path), "--no-pictures", "--max-ms", "1.5"]
    assert run(capsys, *line) == (0, f"{out}\n", "")
    assert (given["language"], given["charts"], given["pictures"]) == ("zh", tmp_path, False)
    choice = given["choice"]
    assert getattr(choice, "pick", None) == "b"
    # What cannot be ranked is shown all the same.
    assert run(capsys, "report", "resnet18", "--out", out)[0] == 0 and given["choice"] is None


@pytest.mark.parametrize("verb", [["compare"], ["compare", "--gate", "--max-slower", "9"], ["choose"]])
def test_comparing_imports_no_torch(two: tuple[str, str], verb: list[str]) -> None:
    code = (
        "import sys; from convatlas.cli import main; code = main(sys.argv[1:]);"
        "heavy = {'torch', 'torchvision', 'altair', 'PIL', 'pandas', 'scipy'} & set(sys.modules); assert not heavy;"
        "assert code in (0, 1), code"
    )
    done = subprocess.run([sys.executable, "-c", code, *verb, *two], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_comparing_runs_without_answers_imports_no_numpy(run_folder: Runs) -> None:
    folder = run_folder("a", evaluation(350), measurement(1.0))
    code = (
        "import sys; from convatlas.cli import main; code = main(sys.argv[1:]); assert code == 0;"
        "assert 'numpy' not in sys.modules"
    )
    line = ["compare", str(folder), "resnet18", "published"]
    done = subprocess.run([sys.executable, "-c", code, *line], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
