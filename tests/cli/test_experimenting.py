"""`convatlas experiment` as a user types it."""

import json
from pathlib import Path

import pytest

from convatlas.cli import main

Capture = pytest.CaptureFixture[str]


def test_the_experiments_are_listed(capsys: Capture) -> None:
    assert main(["experiment"]) == 0
    page = capsys.readouterr().out
    assert [n for n in ("degradation", "resume", "rate", "batch") if f"│ {n} " not in page] == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "degradation digits --out {tmp}/out --depths 20,x",
            "--depths '20,x' is no list of depths; write whole numbers like 20,56",
        ),
        (
            "batch lenet5_relu digits --memory 4",
            "--memory '4' is no size; write a number with its unit, like 4GB or 8GiB",
        ),
        ("rate lenet5_relu digits --out {tmp}/a.png", "--out {tmp}/a.png ends in neither .svg nor .html; "),
        ("resume digits --kills 0", "--kills 0 proves nothing; give 1 or more"),
        ("resume digits --set lr=fast", "recipe field lr cannot be 'fast'; give a number"),
        ("rate bottleneck_block digits", "bottleneck_block is a module and gives feature maps, not classes; "),
    ],
)
def test_a_wrong_line_gives_one_line_and_exit_code_2(line: str, message: str, tmp_path: Path, capsys: Capture) -> None:
    assert main(["experiment", *line.format(tmp=tmp_path).split()]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1
    assert err.startswith(f"convatlas: {message.format(tmp=tmp_path)}")
    assert not list(tmp_path.iterdir())


def test_rate_answers_as_json(capsys: Capture) -> None:
    line = "experiment rate lenet5_relu digits --steps 30 --from 1e-4 --to 5 --json"
    assert main(line.split()) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["proposed"] > 0 and len(answer["steps"]) >= 10
