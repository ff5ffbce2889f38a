"""`convatlas table` and what can be asked of it."""

import json
from pathlib import Path

import pytest

from convatlas.cli import main

Capture = pytest.CaptureFixture[str]


def said(line: str, capsys: Capture) -> str:
    assert main(line.split()) == 0
    return capsys.readouterr().out


def test_a_row_is_explained(capsys: Capture) -> None:
    answer = said("table alexnet_one_tower --explain conv1", capsys)
    for formula in (
        "(227 + 2*0 - 11) / 4 + 1 = 55",
        "96 * (11*11*3 + 1) = 34,944",
        "55*55*96 * 11*11*3 = 105,415,200",
        "1 + (11 - 1) * 1 = 11, stride 1 * 4 = 4",
    ):
        assert formula in answer
    record = json.loads(said("table alexnet_one_tower --explain conv1.conv --json", capsys))
    assert record["rows"][0]["path"] == "conv1.conv"


@pytest.mark.parametrize(
    ("a", "b", "macs"),
    [
        ("inception_naive", "inception_reduced", (854_196_224, 271_351_808)),
        ("plain34", "resnet34", (3_644_493_824, 3_663_761_408)),
        ("three_3x3", "one_7x7", (27 * 256**2 * 784, 49 * 256**2 * 784)),
    ],
)
def test_two_networks_side_by_side(a: str, b: str, macs: tuple[int, int], capsys: Capture) -> None:
    answer = said(f"table {a} --vs {b}", capsys)
    assert " ".join(f"MACs {macs[0]:,} {macs[1]:,}".split()) in " ".join(answer.split())
    assert max(map(len, answer.splitlines())) <= 120


def test_another_tools_total(capsys: Capture) -> None:
    """torchvision's own metadata and fvcore's table in its documentation count ResNet-18 as 1.814 and 1.819 G."""
    assert said("table resnet18 --as fvcore", capsys).startswith("1,819,065,856\n")
    record = json.loads(said("table torchvision:resnet18 --as torch --json", capsys))
    assert record["total"] == 2 * 1_814_073_344
    assert record["input"] == [3, 224, 224]
    two = json.loads(said("table resnet20_cifar --batch 2 --as paper --json", capsys))
    assert (two["input"], two["total"]) == ([2, 3, 32, 32], 2 * 40_551_040)


def test_memory_and_the_largest_batch(capsys: Capture) -> None:
    answer = said("table lenet5_relu --memory", capsys)
    assert "Memory of lenet5_relu" in answer
    assert "247 kB" in answer  # 61,706 weights of 4 bytes
    record = json.loads(said("table resnet20_cifar --fit 1GB --json", capsys))
    assert record["bytes"] == 10**9
    one = json.loads(said("table resnet20_cifar --fit 0.5GB --json", capsys))
    assert 0 < one["batch"] < record["batch"] <= 2.1 * one["batch"]
    assert said("table resnet20_cifar --fit 1kB", capsys).startswith("0: ")


def test_sorted_and_batched(capsys: Capture) -> None:
    rows = json.loads(said("table vgg16 --by params --json", capsys))["rows"]
    assert [r["path"] for r in rows[:3]] == ["fc6.linear", "fc7.linear", "fc8"]
    one, four = (json.loads(said(f"table lenet5 --batch {n} --json", capsys))["totals"] for n in (1, 4))
    assert (four["macs"], four["params"]) == (4 * one["macs"], one["params"])


def test_networks_of_any_origin(tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text("from torch import nn\ndef make():\n    return nn.Conv2d(3, 8, 3, bias=False)\n")
    monkeypatch.chdir(tmp_path)
    for name in ("mine.py:make", f"{tmp_path}/mine.py:make", "mine:make"):
        totals = json.loads(said(f"table {name} --input 3x10x12 --json", capsys))["totals"]
        assert (totals["params"], totals["macs"]) == (216, 216 * 8 * 10)
    assert json.loads(said("table timm:resnet18 --json", capsys))["totals"]["macs"] == 1_814_073_344


def test_a_page_and_a_flowchart(tmp_path: Path, capsys: Capture) -> None:
    page = tmp_path / "net.html"
    assert said(f"table googlenet --html {page}", capsys).strip() == str(page)
    assert "inception_3a" in page.read_text()
    assert said("table googlenet --mermaid", capsys).startswith("flowchart TD\n")


def test_text_fits_the_terminal(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    grid = said("table resnet50", capsys).split("\n\n")[1]
    assert max(map(len, grid.splitlines())) <= 80


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("table resnet50 --json --csv", "--json, --csv, --markdown, --mermaid and --html exclude each other; give one"),
        ("table resnet50 --memory --as torch", "--as and --memory are several questions; ask one at a time"),
        ("table resnet50 --depth -1", "--depth -1 is no number of names; give 0 for every operation, or 1, 2, ..."),
        ("table resnet50 --batch 0", "--batch 0 is no number of images; give 1 or more"),
        ("table resnet50 --fit 24", "--fit '24' is no size; write a number with its unit, like 24GB or 8GiB"),
        ("table resnet50 --explain conv1 --csv", "--csv is no form of this answer; give --json or none"),
        ("table a --vs resnet50 --mermaid", "no network named 'a'; `convatlas list` shows all"),
        ("table plain18 --vs resnet18 --mermaid", "--mermaid and --html draw one network; leave the question out"),
        ("table mine.py", "mine.py does not say which network; write mine.py:callable"),
    ],
)
def test_refusals(line: str, text: str, capsys: Capture) -> None:
    assert main(line.split()) == 2
    assert capsys.readouterr().err == f"convatlas: {text}\n"
