"""`convatlas measure` as a user types it."""

import json
from pathlib import Path

import pytest

from convatlas.cli import main
from convatlas.result import read_results

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(line: str) -> int:
    return main(line.split())


QUICK = "--batch 1,2 --seconds 0.01 --threads 1 --device cpu --no-memory"


def test_cases_are_lines_of_json_and_of_the_archive(capsys: Capture, tmp_path: Path) -> None:
    assert run(f"measure lenet5_relu lenet5 --engines eager,torch {QUICK} --json") == 0
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    cases = [(s, e) for s in ("lenet5_relu", "lenet5") for e in ("eager", "torch")]
    assert [(line["source"], line["engine"]) for line in shown] == cases
    assert all([t["batch"] for t in line["timings"]] == [1, 2] and line["slower"] == [] for line in shown)
    kept = read_results(tmp_path / "results" / "measurements.jsonl")
    assert [(r.source, r.engine) for r in kept] == cases
    assert kept[0].energy


def test_a_table_a_source_and_what_is_left_out_on_stderr(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    from convatlas import engines

    real = engines.available
    monkeypatch.setattr(engines, "available", lambda e, d: "not today" if e == "onnxruntime" else real(e, d))
    assert run(f"measure lenet5_relu --engines torch,onnxruntime,eager {QUICK} --archive none") == 0
    out, err = capsys.readouterr()
    assert out.startswith("lenet5_relu, input 1x32x32: 417 kMACs an image")
    assert "torch fp32" in out and "eager fp32" in out and " *" in out
    assert err.splitlines() == ["lenet5_relu, onnxruntime fp32: left out, not today"]
    assert not Path("results").exists()


def test_slower_cases_and_damaged_lines_are_named(capsys: Capture) -> None:
    assert run(f"measure lenet5_relu {QUICK}") == 0
    file = Path("results/measurements.jsonl")
    line = json.loads(file.read_text())
    for timing in line["timings"]:
        timing["median_ms"] /= 1000
    file.write_text(f"{json.dumps(line)}\ndamaged\n")
    capsys.readouterr()
    assert run(f"measure lenet5_relu {QUICK} --json") == 0
    out, err = capsys.readouterr()
    assert [s["batch"] for s in json.loads(out)["slower"]] == [1, 2]
    assert err.startswith("results/measurements.jsonl, line 2 cannot be read and is passed over: ")
    file.write_text(f"{json.dumps(line)}\n")
    assert run(f"measure lenet5_relu {QUICK}") == 0
    flagged = [
        x for x in capsys.readouterr().out.splitlines() if x.startswith("slower: lenet5_relu, torch fp32, batch")
    ]
    assert len(flagged) == 2 and all(f"of {line['when']} on this machine" in x for x in flagged)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("measure lenet5 --batch 1,x", "--batch '1,x' is no list of batch sizes; write whole numbers like 1,8,64"),
        (
            "measure",
            "nothing to measure; give a network, a run folder or a bundle, like `convatlas measure resnet18`",
        ),
        ("measure lenet5 --threads 0", "0 threads; give a whole number from 1 up"),
        ("measure lenet5 --engines torhc", "no engine named 'torhc'; did you mean torch?"),
        ("measure lenet5 --precisions fp8", "no precision named 'fp8'; known: bf16, fp16, fp32"),
        ("measure lenet5 --archive x.txt", "archive x.txt is no folder and no .jsonl file; give a folder like results"),
    ],
)
def test_mistakes_are_one_line(line: str, message: str, capsys: Capture) -> None:
    Path("x.txt").touch()
    assert run(line) == 2
    assert capsys.readouterr().err.splitlines() == [f"convatlas: {message}"]
