"""What a network answered to each image of a split, and what follows from that: counts, confusion, worst mistakes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import fsum
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...data import BadFile, Split
from ...errors import BadData
from ...layout import Column, csv_text
from ...result import Accuracy

BINS = 15  # of the calibration error, as in Guo et al., On Calibration of Modern Neural Networks, 2017, section 5
COLUMNS = ("image", "label", "answer", "right", "probability of answer", "probability of label")


class Judged(NamedTuple):
    """Figures of N images, each (N,)."""

    answer: Tensor  # int64, the most probable class
    five: Tensor  # bool, whether the label is among the first five
    probability: Tensor  # float32, of the answer
    label_probability: Tensor
    loss: Tensor  # float32, cross entropy


def judged(logits: Tensor, labels: Tensor) -> Judged:
    """Logits (N,classes), or any logarithms that softmax makes the probabilities of, and labels (N,)."""
    logs = torch.log_softmax(logits.float(), dim=1)
    first = logits.topk(min(5, logits.shape[1])).indices
    chances = logs.gather(1, torch.stack((first[:, 0], labels), dim=1))
    both = chances.exp()
    return Judged(first[:, 0], (first == labels[:, None]).any(dim=1), both[:, 0], both[:, 1], -chances[:, 1])


@dataclass(frozen=True, eq=False)
class Answers:
    """One row an image, in the order of `numbers`; unreadable images have none. Classes are the network's."""

    numbers: np.ndarray  # int64, places in the split
    labels: np.ndarray  # int64
    answers: np.ndarray  # int64
    five: np.ndarray  # bool
    probabilities: np.ndarray  # float32, of the answer
    label_probabilities: np.ndarray  # float32
    losses: np.ndarray  # float32

    def __len__(self) -> int:
        return len(self.numbers)

    def take(self, rows: np.ndarray) -> "Answers":
        return Answers(*(getattr(self, name)[rows] for name in Answers.__dataclass_fields__))

    @property
    def right(self) -> np.ndarray:
        """bool (N,)"""
        return self.labels == self.answers

    @property
    def calibration_error(self) -> float:
        """The expected calibration error: |share right - mean probability| over 15 equal bins, weighted by images."""
        place = np.minimum((self.probabilities * BINS).astype(int), BINS - 1)
        gaps = np.bincount(place, self.right - self.probabilities.astype(np.float64), BINS)
        return float(np.abs(gaps).sum() / max(len(self), 1))

    def confusion(self, classes: int) -> np.ndarray:
        """Images by label (row) and answer (column), int64 (classes,classes)."""
        cells = np.bincount(self.labels * classes + self.answers, minlength=classes * classes)
        return cells.reshape(classes, classes)

    def worst(self, most: int) -> np.ndarray:
        """Rows of the mistakes, the most confident first. int64 (up to most,)"""
        wrong = np.flatnonzero(~self.right)
        return wrong[np.argsort(-self.probabilities[wrong], kind="stable")][:most]


@dataclass(frozen=True)
class Counts:
    """What a network made of a split. Unreadable files are named, and are in no other figure."""

    answers: Answers = field(compare=False, repr=False)
    bad: tuple[BadFile, ...] = ()

    @property
    def correct(self) -> int:
        return int(self.answers.right.sum())

    @property
    def top5_correct(self) -> int:
        return int(self.answers.five.sum())

    @property
    def images(self) -> int:
        return len(self.answers)

    @property
    def loss(self) -> float:
        """Summed cross entropy; rounded once, so that neither batches nor shares change it."""
        return fsum(self.answers.losses.tolist())

    def accuracy(self, view: str = "center") -> Accuracy:
        return Accuracy(self.correct, self.top5_correct, self.images, len(self.bad), view)


def merged(parts: Sequence[Counts]) -> Counts:
    """The counts of a whole split from those of its shares; the same for any number of shares.

    Raises BadData when no share has an image.
    """
    bad = tuple(sorted((b for part in parts for b in part.bad), key=lambda b: b.path))
    tables = [part.answers for part in parts]
    names = Answers.__dataclass_fields__
    whole = Answers(*(np.concatenate([getattr(t, name) for t in tables]) for name in names))
    if not len(whole):
        raise BadData(f"none of the images can be read{first_of(bad)}")
    return Counts(whole.take(np.argsort(whole.numbers, kind="stable")), bad)


def first_of(bad: Sequence[BadFile]) -> str:
    """How an error tells the first of the unreadable files."""
    return f"; the first: {bad[0].path}: {bad[0].reason}" if bad else ""


# ---- As text ---------------------------------------------------------------------------------------------------------


def answers_csv(answers: Answers, split: Split, classes: Sequence[str]) -> str:
    """A line an image: its name, label and answer by name, 1 where they are the same, and both probabilities."""
    rows = [
        (split.named(number), classes[label], classes[answer], str(int(label == answer)), f"{p:.6g}", f"{of_label:.6g}")
        for number, label, answer, p, of_label in zip(
            answers.numbers.tolist(),
            answers.labels.tolist(),
            answers.answers.tolist(),
            answers.probabilities.tolist(),
            answers.label_probabilities.tolist(),
            strict=True,
        )
    ]
    return csv_text([Column(name) for name in COLUMNS], rows) + "\n"


def confusion_csv(answers: Answers, classes: Sequence[str]) -> str:
    """A line a label, a column an answer."""
    rows = [[name, *map(str, row)] for name, row in zip(classes, answers.confusion(len(classes)).tolist(), strict=True)]
    return csv_text([Column("label"), *(Column(c) for c in classes)], rows) + "\n"


@dataclass(frozen=True)
class Mistake:
    image: str
    label: str
    answer: str
    probability: float  # of the answer
    label_probability: float


def mistakes(answers: Answers, split: Split, classes: Sequence[str], most: int) -> list[Mistake]:
    """The most confident wrong answers, worst first."""
    return [
        Mistake(
            split.named(int(answers.numbers[row])),
            classes[answers.labels[row]],
            classes[answers.answers[row]],
            round(float(answers.probabilities[row]), 6),
            round(float(answers.label_probabilities[row]), 6),
        )
        for row in answers.worst(most)
    ]


@dataclass(frozen=True)
class ClassCount:
    """How many images of a class were answered right, and the class that most of the others were taken for."""

    name: str
    correct: int
    images: int
    taken_for: str = ""
    taken: int = 0


def by_class(answers: Answers, classes: Sequence[str]) -> list[ClassCount]:
    """Classes without an image are left out."""
    found = []
    for number, row in enumerate(answers.confusion(len(classes))):
        if not row.any():
            continue
        others = row.copy()
        others[number] = 0
        most = int(others.argmax())
        taken = int(others[most])
        name = classes[most] if taken else ""
        found.append(ClassCount(classes[number], int(row[number]), int(row.sum()), name, taken))
    return found
