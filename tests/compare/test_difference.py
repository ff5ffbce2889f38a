"""Whether one run is better than another, paired on the same images."""

from dataclasses import replace
from pathlib import Path

import pytest
from scipy.stats import binomtest
from statsmodels.stats.multitest import multipletests

from convatlas.compare import Entry, compare, difference
from convatlas.compare.difference import MOST, p_text, points_interval, signed, verdict
from convatlas.errors import BadData
from convatlas.record import from_json

from .conftest import STAMP, Runs, answered, evaluation, write_answers

# Of 60 images A and B have 20 right together, A 25 alone, B 5 alone.
A, B = "1" * 20 + "1" * 25 + "0" * 5 + "0" * 10, "1" * 20 + "0" * 25 + "1" * 5 + "0" * 10


def entries(run_folder: Runs, *rights: str) -> list[Entry]:
    return list(compare([answered(run_folder, chr(97 + i), r) for i, r in enumerate(rights)]).entries)


def test_the_counts_and_the_tests(run_folder: Runs) -> None:
    a, b = entries(run_folder, A, B)
    d = difference(a, b)
    assert (d.a, d.b, d.images, d.left_out) == ("a", "b", 60, 0)
    assert (d.a_correct, d.b_correct, d.won, d.lost) == (45, 25, 25, 5)
    assert d.points == pytest.approx(100 * 20 / 60)
    assert d.p == pytest.approx(binomtest(25, 30, 0.5).pvalue)
    assert 0 < d.low < 20 / 60 < d.high and d.verdict == "A is better" and d.decided


def test_the_other_way_round_is_the_mirror(run_folder: Runs) -> None:
    a, b = entries(run_folder, A, B)
    d, back = difference(a, b), difference(b, a)
    assert (back.won, back.lost, back.p, back.verdict) == (d.lost, d.won, d.p, "B is better")
    assert back.points == -d.points


def test_a_run_against_itself_is_too_close_to_call(run_folder: Runs) -> None:
    a, b = entries(run_folder, A, A)
    d = difference(a, b)
    assert (d.won, d.lost, d.p, d.low, d.high, d.verdict) == (0, 0, 1.0, 0.0, 0.0, "too close to call")


def test_each_class_is_tested_with_holms_correction(run_folder: Runs) -> None:
    a, b = entries(run_folder, A, B)
    d = difference(a, b)
    assert [c.name for c in d.classes] == ["a", "b"]
    for field in ("images", "a_correct", "b_correct", "won", "lost"):
        assert sum(getattr(c, field) for c in d.classes) == getattr(d, field)
    own = [binomtest(c.won, c.won + c.lost, 0.5).pvalue for c in d.classes]
    assert [c.p for c in d.classes] == pytest.approx(own)
    assert [c.corrected for c in d.classes] == pytest.approx(list(multipletests(own, method="holm")[1]))
    assert all(c.low <= (c.won - c.lost) / c.images <= c.high for c in d.classes)


def test_unreadable_images_are_left_out_and_said_so(run_folder: Runs) -> None:
    a, b = entries(run_folder, "-" + A[1:], "1-" + B[2:])
    d = difference(a, b)
    assert (d.images, d.left_out, d.won, d.lost) == (58, 2, 25, 5)
    assert "2 images that only one of them could read are left out." in d.as_text()


def test_the_words(run_folder: Runs) -> None:
    a, b = entries(run_folder, A, B)
    d = difference(a, b)
    assert d.sentence() == (
        "a is better than b: 45 of 60 (75.0 %) against 25 of 60 (41.7 %) right, a difference of +33.3 points "
        f"(95 % interval {points_interval(d.low, d.high)}); a alone has 25 images right, b alone 5, p = 0.00032."
    )
    assert difference(b, a).sentence().startswith("a is better than b: 25 of 60 (41.7 %) against 45 of 60 (75.0 %)")
    assert difference(a, a).sentence().startswith("a and a are too close to call: ")
    assert d.as_text().endswith("p by class is McNemar's, corrected by Holm's method for 2 tests.")
    assert from_json(type(d), d.as_json()) == d


def test_a_text_names_twenty_classes_and_counts_the_others(run_folder: Runs) -> None:
    labels = "".join(chr(0x4E00 + i) for i in range(23))
    folders = [answered(run_folder, n, "1" * 23) for n in "ab"]
    for folder in folders:
        write_answers(folder, "1" * 23, labels)
    told = difference(*compare(folders).entries).as_text()
    assert sum(c in told for c in labels) == 20
    assert told.endswith("corrected by Holm's method for 23 tests. 3 more classes are in the JSON.")


def test_a_run_without_answers_is_refused(run_folder: Runs) -> None:
    a, b = compare([answered(run_folder, "a", A), run_folder("b", evaluation(350))]).entries
    with pytest.raises(BadData) as caught:
        difference(a, b)
    assert str(caught.value) == (
        f"cannot pair a and b: b has no answers to each image; `convatlas evaluate {b.folder} DATA --answers "
        f"{b.folder}/answers.csv` writes them"
    )


def test_other_images_are_refused(run_folder: Runs) -> None:
    a, b = compare([answered(run_folder, "a", A), answered(run_folder, "b", B, digest="cd" * 32)]).entries
    with pytest.raises(BadData) as caught:
        difference(a, b)
    assert str(caught.value) == (
        "cannot pair a and b: their answers are to different images, digits/test with digest abababab and digits/test "
        "with digest cdcdcdcd; `convatlas evaluate` both on the same data"
    )


def test_other_names_and_other_labels_are_refused(run_folder: Runs) -> None:
    a, b = entries(run_folder, "11", "11")
    write_answers(Path(b.folder), "11", "ab", ["p", "q"])
    with pytest.raises(BadData) as caught:
        difference(a, b)
    assert str(caught.value) == "cannot pair a and b: no image has the same name in both files of answers"
    write_answers(Path(b.folder), "11", "ac")
    with pytest.raises(BadData) as caught:
        difference(a, b)
    assert str(caught.value) == ("cannot pair a and b: they give image 'test image 1' different labels; train one anew")


def test_a_comparison_sets_the_best_against_each_other_run(run_folder: Runs) -> None:
    close = A[:44] + "0" + A[45:]
    compared = compare([answered(run_folder, n, r) for n, r in (("a", B), ("b", A), ("c", close))])
    assert [(d.a, d.b, d.verdict) for d in compared.differences] == [
        ("b", "a", "A is better"),
        ("b", "c", "too close to call"),
    ]
    shown = compared.as_text()
    assert "Against b, paired on the same 60 images:" in shown
    assert next(line for line in shown.splitlines() if line.startswith("c ") and "too close to call" in line)


def test_two_runs_alone_are_told_in_words(run_folder: Runs) -> None:
    compared = compare([answered(run_folder, "a", A), answered(run_folder, "b", B)])
    assert compared.differences[0].as_text() in compared.as_text()
    assert "Against" not in compared.as_text()


def test_runs_whose_accuracy_is_of_other_images_than_their_answers_are_not_paired(run_folder: Runs) -> None:
    a, b = entries(run_folder, A, B)
    elsewhere = replace(STAMP, digest="ef" * 32)
    from convatlas.compare.difference import differences

    assert differences([a, b]) and not differences([a, replace(b, data=elsewhere)])


def test_no_more_than_twenty_runs_are_paired(run_folder: Runs) -> None:
    compared = compare([answered(run_folder, f"r{i:02d}", A) for i in range(MOST + 3)])
    assert len(compared.differences) == MOST - 1


@pytest.mark.parametrize(
    ("p", "low", "high", "expected"),
    [
        (0.01, 0.01, 0.05, "A is better"),
        (0.01, -0.05, -0.01, "B is better"),
        (0.05, 0.01, 0.05, "too close to call"),
        (0.01, 0.0, 0.05, "too close to call"),
        (0.01, -0.05, 0.0, "too close to call"),
    ],
)
def test_a_verdict_needs_both_the_test_and_the_interval(p: float, low: float, high: float, expected: str) -> None:
    assert verdict(p, low, high) == expected


def test_figures_are_signed() -> None:
    assert [signed(x) for x in (1.44, -0.34, 0.0, -0.04)] == ["+1.4", "-0.3", "0.0", "0.0"]
    assert points_interval(-0.004, 0.031) == "-0.4 to +3.1"
    assert [p_text(p) for p in (1.0, 0.996, 0.21, 0.0301, 0.00032, 0.00001)] == [
        "1", "1", "0.21", "0.03", "0.00032", "under 0.0001"
    ]  # fmt: skip
