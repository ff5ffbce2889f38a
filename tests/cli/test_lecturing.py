"""`convatlas report --lecture`: the page where it was asked for, from the archive of this folder."""

from pathlib import Path

import pytest

from convatlas.cli import main

Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_page_is_written_and_named(here: Path, capsys: Capture) -> None:
    assert main(["report", "--lecture", "--out", "pages/lecture.html", "--lang", "zh"]) == 0
    assert capsys.readouterr().out == "pages/lecture.html\n"
    page = (here / "pages" / "lecture.html").read_text(encoding="utf-8")
    assert '<html lang="zh-CN">' in page
    assert "--engines torch --archive results" in page


def test_an_archive_that_cannot_be_read_is_refused(here: Path, capsys: Capture) -> None:
    (here / "results").mkdir()
    (here / "results" / "measurements.jsonl").write_text("{}\n")
    assert main(["report", "--lecture", "--out", "lecture.html"]) == 2
    expected = (
        "convatlas: results/measurements.jsonl holds no result; "
        "give an archive that `convatlas measure` writes, one JSON a line\n"
    )
    assert capsys.readouterr().err == expected
    assert not (here / "lecture.html").exists()


def test_a_language_that_there_is_not_is_refused(here: Path, capsys: Capture) -> None:
    assert main(["report", "--lecture", "--out", "lecture.html", "--lang", "eo"]) == 2
    assert capsys.readouterr().err == "convatlas: no language named 'eo'; give one of en, zh\n"
    assert not (here / "lecture.html").exists()
