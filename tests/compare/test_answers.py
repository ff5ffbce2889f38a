"""answers.csv of run folders: read, matched by image, and known by its counts."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.compare import compare
from convatlas.compare.answers import Answers, matched, read_answers, tally
from convatlas.train.evaluating import answers as written

from .conftest import STAMP, Runs, answered, evaluation, write_answers


def test_the_columns_are_those_that_an_evaluation_writes() -> None:
    from convatlas.compare.answers import COLUMNS

    assert list(written.COLUMNS[: len(COLUMNS)]) == COLUMNS


def test_rows_are_read_by_name_and_images_of_one_name_kept_apart(tmp_path: Path) -> None:
    write_answers(tmp_path, "1010", "abab", ['"x, ""y"".jpg"', "z", "z", "z"])
    found = read_answers(tmp_path / "answers.csv")
    assert found.rows == {
        ('x, "y".jpg', 0): ("a", True),
        ("z", 0): ("b", False),
        ("z", 1): ("a", True),
        ("z", 2): ("b", False),
    }
    assert found.correct == 2


def test_a_file_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    write_answers(tmp_path, "10")
    assert read_answers(tmp_path / "answers.csv").correct == 1
    write_answers(tmp_path, "111")
    assert read_answers(tmp_path / "answers.csv").correct == 3


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("", "its first line is not image,label,answer,right,..."),
        ("a,b\n", "its first line is not image,label,answer,right,..."),
        ("image,label,answer,right\n", "it holds no image"),
        ("image,label,answer,right\nx,a,a,1\nx,a,a\n", "row 3 is damaged"),
        ("image,label,answer,right\nx,a,a,yes\n", "row 2 is damaged"),
    ],
)
def test_a_damaged_file_is_told_in_a_warning_and_not_used(run_folder: Runs, content: str, fault: str) -> None:
    a, b = answered(run_folder, "a", "1100"), answered(run_folder, "b", "1110")
    (a / "answers.csv").write_text(content)
    compared = compare([a, b])
    assert compared.warnings == (f"a: answers.csv cannot be used: {fault}",)
    assert compared.entries[0].answers is None and compared.differences == ()


def test_answers_that_no_result_counts_are_not_used(run_folder: Runs) -> None:
    a, b = answered(run_folder, "a", "1100"), answered(run_folder, "b", "1110")
    write_answers(a, "1000")
    assert compare([a, b]).warnings == (
        "a: answers.csv cannot be used: it has 1 of 4 right, which no line of results.json has",
    )


def test_answers_are_of_the_newest_result_with_their_counts(run_folder: Runs) -> None:
    a = answered(run_folder, "a", "1100")
    other = replace(STAMP, images=4, digest="ef" * 32)
    b = run_folder("b", evaluation(2, 20, other), evaluation(2, 25, replace(STAMP, images=4)), evaluation(3, 40, other))
    write_answers(b, "1010")
    compared = compare([a, b])
    assert [e.answers and e.answers.digest for e in compared.entries] == ["ab" * 32, "ab" * 32]
    # The accuracies are of the images that both runs share, so the pair is of those too.
    assert len(compared.differences) == 1


def test_the_same_images_in_another_place_match() -> None:
    a = Answers({("photos/test/cat/1.jpg", 0): ("cat", True), ("photos/test/dog/1.jpg", 0): ("dog", True)})
    b = Answers({("/data/test/dog/1.jpg", 0): ("dog", False), ("/data/test/cat/1.jpg", 0): ("cat", True)})
    assert matched(a, b) == ([("cat", True, True), ("dog", True, False)], 0, "")


def test_images_that_one_could_not_read_are_left_out_and_other_labels_told() -> None:
    a = Answers({("x", 0): ("a", True), ("y", 0): ("a", True), ("z", 0): ("b", False)})
    b = Answers({("x", 0): ("a", True), ("z", 0): ("c", False)})
    assert matched(a, b) == ([("a", True, True), ("b", False, False)], 1, "z")


@given(st.lists(st.tuples(st.booleans(), st.booleans())))
def test_the_tally_counts_every_pair_once(pairs: list[tuple[bool, bool]]) -> None:
    both, won, lost, neither = tally(pairs)
    assert both + won + lost + neither == len(pairs)
    assert both + won == Counter(a for a, _ in pairs)[True] and both + lost == Counter(b for _, b in pairs)[True]
