"""What answers.csv comes to: confusion and calibration against scikit-learn and the paper's formula."""

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import confusion_matrix

from convatlas.report.answered import Answered, bins, read_answered

HEADING = ["image", "label", "answer", "right", "probability of answer", "probability of label"]


def write(path: Path, rows: list[list[object]], heading: list[str] = HEADING) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([heading, *rows])
    return path


def read(path: Path) -> Answered:
    found = read_answered(path)
    assert found is not None
    return found


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=200))
@settings(deadline=None)
def test_the_calibration_error_is_guos_equation_3(pairs: list[tuple[float, bool]]) -> None:
    chances, right = (np.array(x) for x in zip(*pairs, strict=True))
    found = Answered(("",) * len(pairs), ("",) * len(pairs), int(right.sum()), bins(chances.tolist(), right), ())
    error = 0.0
    for m in range(15):  # sum over the bins of |B| / n * |acc(B) - conf(B)|
        inside = [min(int(p * 15), 14) == m for p in chances]
        if any(inside):
            error += sum(inside) / len(pairs) * abs(right[inside].mean() - chances[inside].mean())
    assert found.calibration_error == pytest.approx(error, abs=1e-12)
    assert found.confidence == pytest.approx(chances.mean(), abs=1e-12)


def test_a_network_that_says_what_it_knows_has_no_error() -> None:
    # Ten answers at 0.7, seven of them right; two at 1, both right.
    found = Answered(("",) * 12, ("",) * 12, 9, bins([0.7] * 10 + [1.0] * 2, [True] * 7 + [False] * 3 + [True] * 2), ())
    assert found.calibration_error == pytest.approx(0, abs=1e-12)
    assert [(b.images, b.right) for b in found.bins if b.images] == [(10, 7), (2, 2)]


def test_the_confusion_is_scikit_learns(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    names = ["hat", "shoe, left", 'a "b"']
    labels, answers = rng.choice(names, 60), rng.choice(names, 60)
    rows = [[f"{i}.jpg", a, b, int(a == b), 0.5, 0.1] for i, (a, b) in enumerate(zip(labels, answers, strict=True))]
    found = read(write(tmp_path / "answers.csv", rows))
    shown = found.confusion(names)
    assert [[c.images for c in row] for row in shown.rows] == confusion_matrix(labels, answers, labels=names).tolist()
    shares = confusion_matrix(labels, answers, labels=names, normalize="true")
    assert np.allclose([[c.share for c in row] for row in shown.rows], shares)
    assert shown.recall == tuple(row[i].share for i, row in enumerate(shown.rows))


def test_above_twenty_classes_the_most_confused_pairs_are_named(tmp_path: Path) -> None:
    names = [f"c{i}" for i in range(30)]
    rows: list[list[object]] = [[f"{i}", a, a, 1, 0.9, 0.9] for i, a in enumerate(names)]
    rows += [[f"x{i}", "c3", "c7", 0, 0.9, 0.1] for i in range(4)]
    rows += [[f"y{i}", f"c{i}", "c29", 0, 0.9, 0.1] for i in range(25)]
    shown = read(write(tmp_path / "answers.csv", rows)).confusion(names)
    assert shown.rows == () and len(shown.pairs) == 20 and shown.more == 6
    label, answer, cell = shown.pairs[0]
    assert (label, answer, cell.images) == ("c3", "c7", 4)
    assert cell.share == pytest.approx(4 / 6)  # of c3's images: one right, four taken for c7, one for c29


def test_the_worst_mistakes_are_the_most_confident(tmp_path: Path) -> None:
    rows: list[list[object]] = [[f"{i}.jpg", "a", "b", 0, i / 20, 0.1] for i in range(15)]
    rows.append(["right.jpg", "a", "a", 1, 0.99, 0.99])
    worst = read(write(tmp_path / "answers.csv", rows)).worst
    assert [m.image for m in worst] == [f"{i}.jpg" for i in range(14, 2, -1)]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "image,label\n",
        "image,label,answer,right\n",
        "image,label,answer,right\na,b\n",
        ",".join(HEADING) + "\nx,a,b,0,2,0\n",
        ",".join(HEADING) + "\nx,a,b,0,nan,0\n",
        ",".join(HEADING) + "\nx,a,b,0,much,0\n",
    ],
)
def test_a_file_that_is_none_of_ours_gives_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "answers.csv").write_text(text)
    assert read_answered(tmp_path / "answers.csv") is None


def test_without_probabilities_there_is_a_confusion_and_no_calibration(tmp_path: Path) -> None:
    rows: list[list[object]] = [["1", "a", "b", 0], ["2", "a", "a", 1]]
    found = read(write(tmp_path / "answers.csv", rows, HEADING[:4]))
    assert (found.right, found.images, found.bins, found.worst) == (1, 2, (), ())
    assert read_answered(tmp_path / "missing.csv") is None
