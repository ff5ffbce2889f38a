"""Figures of each image against a plain loop and torchmetrics; shares merged; and the files that tell them."""

import csv
import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convatlas.data import BadFile, Split
from convatlas.errors import BadData
from convatlas.train.evaluating.answers import (
    Answers,
    ClassCount,
    Counts,
    answers_csv,
    by_class,
    confusion_csv,
    judged,
    merged,
    mistakes,
)


def table(logits: torch.Tensor, labels: torch.Tensor) -> Answers:
    columns = [column.numpy() for column in judged(logits, labels)]
    return Answers(np.arange(len(labels)), labels.numpy(), *columns)


def drawn(classes: int, images: int = 64) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(classes)
    return 3 * torch.randn(images, classes, generator=generator), torch.randint(
        0, classes, (images,), generator=generator
    )


@pytest.mark.parametrize("classes", [2, 4, 5, 6, 40])
def test_figures_are_those_of_a_plain_loop(classes: int) -> None:
    logits, labels = drawn(classes)
    counts = Counts(table(logits, labels))
    first = five = 0
    loss = 0.0
    rows = zip(logits.double().tolist(), labels.tolist(), counts.answers.probabilities.tolist(), strict=True)
    for row, label, probability in rows:
        order = sorted(range(classes), key=lambda c: -row[c])
        total = np.exp(row).sum()
        first += order[0] == label
        five += label in order[:5]
        loss -= row[label] - np.log(total)
        assert probability == pytest.approx(np.exp(row[order[0]]) / total, rel=1e-5)
    assert (counts.correct, counts.top5_correct, counts.images) == (first, five, 64)
    assert counts.loss == pytest.approx(loss, rel=1e-5)
    np.testing.assert_allclose(
        counts.answers.label_probabilities, logits.softmax(1)[torch.arange(64), labels], rtol=1e-5
    )


@pytest.mark.parametrize("classes", [2, 10])
def test_calibration_and_confusion_are_those_of_a_plain_loop(classes: int) -> None:
    """Guo et al. 2017, equations 2 and 3: the sum over bins of |B|/n |acc(B) - conf(B)|."""
    logits, labels = drawn(classes, 500)
    answers = table(logits, labels)
    bins: dict[int, list[tuple[float, bool]]] = {}
    matrix = [[0] * classes for _ in range(classes)]
    for chances, label in zip(logits.softmax(1).tolist(), labels.tolist(), strict=True):
        answer = chances.index(max(chances))
        matrix[label][answer] += 1
        bins.setdefault(min(int(max(chances) * 15), 14), []).append((max(chances), answer == label))
    error = 0.0
    for found in bins.values():
        accuracy = sum(right for _, right in found) / len(found)
        confidence = sum(chance for chance, _ in found) / len(found)
        error += len(found) / 500 * abs(accuracy - confidence)
    assert answers.calibration_error == pytest.approx(error, abs=1e-6)
    assert answers.confusion(classes).tolist() == matrix


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 40), st.integers(1, 7))
def test_merged_shares_are_the_whole_whatever_their_number(images: int, of: int) -> None:
    logits, labels = drawn(7, images)
    whole = table(logits, labels)
    bad = tuple(BadFile(f"{i}.png", "empty") for i in range(3))
    parts = [
        Counts(whole.take(np.arange(rank, images, of)), tuple(b for i, b in enumerate(bad) if i % of == rank))
        for rank in range(of)
    ]
    found = merged(parts)
    assert found.bad == bad
    assert found.loss == Counts(whole).loss  # to the last bit
    for name in Answers.__dataclass_fields__:
        np.testing.assert_array_equal(getattr(found.answers, name), getattr(whole, name))


def test_merged_of_nothing() -> None:
    nothing = table(torch.empty(0, 3), torch.empty(0, dtype=torch.long))
    with pytest.raises(BadData) as caught:
        merged([Counts(nothing, (BadFile("b.png", "the file is empty"),)), Counts(nothing, (BadFile("a.png", "x"),))])
    assert str(caught.value) == "none of the images can be read; the first: a.png: x"


CLASSES = ("cat", "dog, wet", "fox")
LOGITS = torch.tensor([[4.0, 0, 0], [0, 2.0, 0], [3.0, 0, 0], [0, 0, 1.0], [0, 0, 9.0]])
LABELS = torch.tensor([0, 1, 1, 1, 0])
SPLIT = Split("test", LABELS.numpy(), np.zeros((5, 2, 2), np.uint8), classes=CLASSES)


def test_each_image_stands_in_the_csv_by_name() -> None:
    rows = list(csv.DictReader(io.StringIO(answers_csv(table(LOGITS, LABELS), SPLIT, CLASSES))))
    assert [(r["image"], r["label"], r["answer"], r["right"]) for r in rows] == [
        ("test image 0", "cat", "cat", "1"),
        ("test image 1", "dog, wet", "dog, wet", "1"),
        ("test image 2", "dog, wet", "cat", "0"),
        ("test image 3", "dog, wet", "fox", "0"),
        ("test image 4", "cat", "fox", "0"),
    ]
    chances = LOGITS.softmax(1)
    for row, logits, label in zip(rows, chances, LABELS, strict=True):
        assert float(row["probability of answer"]) == pytest.approx(float(logits.max()), rel=1e-5)
        assert float(row["probability of label"]) == pytest.approx(float(logits[label]), rel=1e-5)


def test_the_confusion_has_labels_down_and_answers_across() -> None:
    assert list(csv.reader(io.StringIO(confusion_csv(table(LOGITS, LABELS), CLASSES)))) == [
        ["label", "cat", "dog, wet", "fox"],
        ["cat", "1", "0", "1"],
        ["dog, wet", "1", "1", "1"],
        ["fox", "0", "0", "0"],
    ]


def test_the_worst_mistakes_are_the_most_confident() -> None:
    chances = LOGITS.softmax(1).tolist()
    found = mistakes(table(LOGITS, LABELS), SPLIT, CLASSES, 2)
    assert [(m.image, m.label, m.answer) for m in found] == [
        ("test image 4", "cat", "fox"),
        ("test image 2", "dog, wet", "cat"),
    ]
    assert [m.probability for m in found] == pytest.approx([chances[4][2], chances[2][0]], abs=2e-6)
    assert [m.label_probability for m in found] == pytest.approx([chances[4][0], chances[2][1]], abs=2e-6)


def test_a_class_without_an_image_is_left_out() -> None:
    assert by_class(table(LOGITS, LABELS), CLASSES) == [
        ClassCount("cat", 1, 2, "fox", 1),
        ClassCount("dog, wet", 1, 3, "cat", 1),
    ]
