"""What a user may name, told apart."""

import os
from pathlib import Path

import pytest

from convatlas.compare import compare
from convatlas.compare.sources import sort_out
from convatlas.errors import BadCheckpoint, UsageError
from convatlas.result import lines

from .conftest import Runs, evaluation, measurement


def test_each_kind_is_known_and_taken_once(run_folder: Runs, tmp_path: Path) -> None:
    run = run_folder("a", evaluation(350))
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "m.jsonl").write_text(lines([measurement(1.0)]))
    given = [run, str(run), "resnet18", "published", "resnet18", "published:alexnet", tmp_path / "r"]
    found = sort_out(given)
    assert (found.runs, found.archives) == ([run], [tmp_path / "r"])
    assert (found.networks, found.published) == (["resnet18"], ["", "alexnet"])


def test_a_folder_of_a_networks_name_counts_before_the_network(
    run_folder: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_folder("lenet5", evaluation(350))
    monkeypatch.chdir(tmp_path)
    assert [e.mark for e in compare(["lenet5"]).entries] == ["run"]


def test_a_run_that_was_stopped_is_no_archive(run_folder: Runs) -> None:
    folder = run_folder("a", evaluation(350))
    (folder / "results.json").unlink()
    with pytest.raises(BadCheckpoint) as caught:
        compare([folder])
    assert str(caught.value).startswith(f"{folder} holds no results; give a run that")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            "resnet81",
            "no run folder, archive or network named 'resnet81'; did you mean resnet18, resnet152, resnet101?",
        ),
        ("runs/x", "no run folder at runs/x; `convatlas train NETWORK DATA --out runs/x` makes one"),
        ("x.jsonl", "no archive at x.jsonl; `convatlas measure NETWORK` makes one"),
        ("page.html", "page.html is no run folder and no archive; an archive's name ends in .jsonl"),
    ],
)
def test_what_is_neither_a_path_nor_a_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("page.html").touch()
    with pytest.raises(UsageError) as caught:
        compare([given])
    assert str(caught.value) == message


def test_names_of_bytes_that_are_no_text_are_spelled_out(run_folder: Runs, tmp_path: Path) -> None:
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/odd\xff"))
    run_folder("a", evaluation(350)).rename(odd)
    assert compare([odd]).entries[0].name == "odd\\xff"
