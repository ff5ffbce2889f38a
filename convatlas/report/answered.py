"""What a run answered to each image: its confusion, its worst mistakes, and whether its probabilities hold."""

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BINS = 15  # as in Guo et al., On Calibration of Modern Neural Networks, 2017, section 5
WORST = 12
HEAT = 20  # classes up to which the confusion is a matrix
PAIRS = 20  # most confused pairs that are named above that


@dataclass(frozen=True)
class Mistake:
    image: str
    label: str
    answer: str
    probability: float  # of the answer
    label_probability: float


@dataclass(frozen=True)
class Bin:
    """The images whose answer got a probability between `low` and `high`."""

    low: float
    high: float
    images: int
    right: int
    probability: float  # mean of the answers'

    @property
    def share_right(self) -> float:
        return self.right / self.images if self.images else 0.0


@dataclass(frozen=True)
class Cell:
    images: int
    share: float  # of the row's images


@dataclass(frozen=True)
class Confusion:
    """Images by label and answer: all of them up to 20 classes, else the pairs that are confused most."""

    classes: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]  # empty where there are too many classes
    pairs: tuple[tuple[str, str, Cell], ...]  # label, answer, images and their share of the label's, most first
    more: int = 0  # further pairs

    @property
    def recall(self) -> tuple[float | None, ...]:
        """Of each class the share that was answered right; None where it has no image."""
        sums = [sum(cell.images for cell in row) for row in self.rows]
        return tuple(row[i].share if n else None for i, (row, n) in enumerate(zip(self.rows, sums, strict=True)))


@dataclass(frozen=True)
class Answered:
    """One run's answers.csv."""

    labels: tuple[str, ...]
    answers: tuple[str, ...]
    right: int
    bins: tuple[Bin, ...]  # empty where the file has no probabilities
    worst: tuple[Mistake, ...]

    @property
    def images(self) -> int:
        return len(self.labels)

    @property
    def calibration_error(self) -> float:
        """The expected calibration error (Guo et al. 2017, equation 3), as a share of one."""
        return sum(abs(b.right - b.images * b.probability) for b in self.bins) / max(self.images, 1)

    @property
    def confidence(self) -> float:
        """The mean probability of the answers."""
        return sum(b.images * b.probability for b in self.bins) / max(self.images, 1)

    def confusion(self, classes: Sequence[str]) -> Confusion:
        counts = Counter(zip(self.labels, self.answers, strict=True))
        names = tuple(classes) if set(self.labels) | set(self.answers) <= set(classes) else ()
        names = names or tuple(sorted(set(self.labels) | set(self.answers)))
        of = Counter(self.labels)
        wrong = sorted((p for p in counts if p[0] != p[1]), key=lambda p: (-counts[p], p))
        pairs = tuple((a, b, Cell(counts[a, b], counts[a, b] / of[a])) for a, b in wrong[:PAIRS])
        if len(names) > HEAT:
            return Confusion(names, (), pairs, max(0, len(wrong) - PAIRS))
        rows = tuple(tuple(Cell(n := counts[a, b], n / of[a] if of[a] else 0.0) for b in names) for a in names)
        return Confusion(names, rows, pairs)


def read_answered(path: Path) -> Answered | None:
    """None where there is no such file, or it is none of ours: the comparison has said so already."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            heading, *rows = csv.reader(file)
        fields = {name: place for place, name in enumerate(heading)}
        labels, answers = ([row[fields[name]] for row in rows] for name in ("label", "answer"))
        if not rows:
            return None
        chances = _chances(rows, fields)
    except (OSError, ValueError, KeyError, IndexError, csv.Error):
        return None
    right = sum(a == b for a, b in zip(labels, answers, strict=True))
    if chances is None:
        return Answered(tuple(labels), tuple(answers), right, (), ())
    wrong = [i for i, (a, b) in enumerate(zip(labels, answers, strict=True)) if a != b]
    worst = sorted(wrong, key=lambda i: -chances[i][0])[:WORST]
    found = tuple(Mistake(rows[i][fields["image"]], labels[i], answers[i], *chances[i]) for i in worst)
    hits = [a == b for a, b in zip(labels, answers, strict=True)]
    return Answered(tuple(labels), tuple(answers), right, bins([c for c, _ in chances], hits), found)


def _chances(rows: Sequence[Sequence[str]], fields: dict[str, int]) -> list[tuple[float, float]] | None:
    """Probabilities of answer and of label. Raises ValueError where one is no share of one."""
    if "probability of answer" not in fields or "probability of label" not in fields:
        return None
    answer, label = fields["probability of answer"], fields["probability of label"]
    chances = [(float(row[answer]), float(row[label])) for row in rows]
    if not all(0 <= p <= 1 and 0 <= q <= 1 for p, q in chances):
        raise ValueError("a probability is no share of one")
    return chances


def bins(probabilities: Sequence[float], right: Sequence[bool]) -> tuple[Bin, ...]:
    """15 bins of equal width, empty ones too; a probability of 1 is in the last."""
    images, hits, sums = [0] * BINS, [0] * BINS, [0.0] * BINS
    for p, hit in zip(probabilities, right, strict=True):
        place = min(int(p * BINS), BINS - 1)
        images[place] += 1
        hits[place] += hit
        sums[place] += p
    return tuple(
        Bin(i / BINS, (i + 1) / BINS, n, k, s / n if n else 0.0)
        for i, (n, k, s) in enumerate(zip(images, hits, sums, strict=True))
    )
