"""Whether one run is better than another: paired on the images that both answered."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from .. import units
from ..errors import BadData
from ..layout import Cell, Column, text
from ..paired import bootstrap, holm, mcnemar
from ..record import to_json
from ..result import DataStamp
from .answers import Answers, matched, read_answers, tally
from .entries import Entry

LEVEL = 0.05  # p values from here on decide nothing
MOST = 20  # runs that are set against the best; a page shows no more
SHOWN = 20  # classes in a text, those with the smallest p; all are in the JSON
Verdict = Literal["A is better", "B is better", "too close to call"]


@dataclass(frozen=True)
class ClassDifference:
    """The same for the images of one class. `p` is McNemar's, `corrected` Holm's for as many tests as classes."""

    name: str
    images: int
    a_correct: int
    b_correct: int
    won: int
    lost: int
    p: float
    corrected: float
    low: float
    high: float
    verdict: Verdict


@dataclass(frozen=True)
class Difference:
    """The accuracy of A less that of B on the images that both answered."""

    a: str
    b: str
    data: DataStamp
    images: int
    left_out: int  # images that only one of the two could read
    a_correct: int
    b_correct: int
    won: int  # images that A alone has right
    lost: int  # images that B alone has right
    p: float  # McNemar's exact test, two-sided
    low: float  # 95 % bootstrap interval of the difference, as shares of one
    high: float
    verdict: Verdict
    classes: tuple[ClassDifference, ...]

    @property
    def points(self) -> float:
        """Percentage points that A is ahead."""
        return 100 * (self.a_correct - self.b_correct) / self.images

    @property
    def decided(self) -> bool:
        return self.verdict != "too close to call"

    def as_json(self) -> str:
        return to_json(self)

    def as_text(self) -> str:
        """The verdict in words, then the classes that differ most."""
        lines = [self.sentence()]
        if self.left_out:
            lines.append(f"{_images(self.left_out)} that only one of them could read are left out.")
        by_p = sorted(self.classes, key=lambda c: (c.p, c.name))
        lines.append(text(*class_table(by_p[:SHOWN], self.a, self.b)))
        more = f" {len(by_p) - SHOWN:,} more classes are in the JSON." if len(by_p) > SHOWN else ""
        lines.append(f"p by class is McNemar's, corrected by Holm's method for {len(by_p)} tests.{more}")
        return "\n\n".join(lines)

    def sentence(self) -> str:
        """Who is better, by how much, and how sure that is."""
        head = {
            "A is better": f"{self.a} is better than {self.b}",
            "B is better": f"{self.b} is better than {self.a}",
            "too close to call": f"{self.a} and {self.b} are too close to call",
        }[self.verdict]
        return (
            f"{head}: {units.of(self.a_correct, self.images)} against {units.of(self.b_correct, self.images)} right, a "
            f"difference of {signed(self.points)} points (95 % interval {points_interval(self.low, self.high)}); "
            f"{self.a} alone has {_images(self.won)} right, {self.b} alone {self.lost:,}, {p_told(self.p)}."
        )


def difference(a: Entry, b: Entry) -> Difference:
    """A against B, from the answers.csv of both runs, images matched by name.

    McNemar's exact test and a bootstrap interval; "too close to call" where p is 0.05 or more or the interval holds 0.
    Each class is tested too, its p corrected by Holm's method. Raises BadData where one has no answers or the images
    are not the same.
    """
    data = _same_images(a, b)
    answers = _answers(a), _answers(b)
    pairs, left_out, clash = matched(*answers)
    if clash:
        raise BadData(f"cannot pair {a.name} and {b.name}: they give image {clash!r} different labels; train one anew")
    if not pairs:
        raise BadData(f"cannot pair {a.name} and {b.name}: no image has the same name in both files of answers")
    both, won, lost, _ = tally((x, y) for _, x, y in pairs)
    n, p = len(pairs), mcnemar(won, lost)
    low, high = bootstrap(won, lost, n)
    return Difference(
        a=a.name,
        b=b.name,
        data=data,
        images=n,
        left_out=left_out,
        a_correct=both + won,
        b_correct=both + lost,
        won=won,
        lost=lost,
        p=p,
        low=low,
        high=high,
        verdict=verdict(p, low, high),
        classes=_classes(pairs),
    )


def paired(a: Entry, b: Entry) -> bool:
    """Whether `difference` can tell about the accuracies: both have answers to the images that these are of."""
    stamps = [e.answers and _stamp(e.answers) for e in (a, b)] + [e.data and _stamp(e.data) for e in (a, b)]
    return None not in stamps and len(set(stamps)) == 1


def differences(entries: Sequence[Entry]) -> tuple[Difference, ...]:
    """The most accurate run against each other one that has answers to the same images; of at most 20 runs."""
    judged = [e for e in entries if e.accuracy and e.answers][:MOST]
    if len(judged) < 2:
        return ()
    best = max(judged, key=lambda e: e.accuracy.top1 if e.accuracy else 0.0)
    return tuple(difference(best, e) for e in judged if e is not best and paired(best, e))


def verdict(p: float, low: float, high: float) -> Verdict:
    if p >= LEVEL or low <= 0 <= high:
        return "too close to call"
    return "A is better" if low > 0 else "B is better"


def _same_images(a: Entry, b: Entry) -> DataStamp:
    for e in (a, b):
        if e.answers is None:
            hint = f"`convatlas evaluate {e.folder} DATA --answers {e.folder}/answers.csv` writes them"
            raise BadData(f"cannot pair {a.name} and {b.name}: {e.name} has no answers to each image; {hint}")
    assert a.answers is not None and b.answers is not None
    if _stamp(a.answers) != _stamp(b.answers):
        raise BadData(
            f"cannot pair {a.name} and {b.name}: their answers are to different images, {_told(a.answers)} and "
            f"{_told(b.answers)}; `convatlas evaluate` both on the same data"
        )
    return a.answers


def _stamp(data: DataStamp) -> tuple[str, str]:
    return data.digest, data.split


def _told(data: DataStamp) -> str:
    return f"{data.name}/{data.split} with digest {data.digest[:8]}"


def _answers(e: Entry) -> Answers:
    path = Path(e.folder) / "answers.csv"
    try:
        return read_answers(path)
    except (OSError, ValueError) as error:
        raise BadData(f"{path} cannot be read: {error}") from None


def _classes(pairs: Sequence[tuple[str, bool, bool]]) -> tuple[ClassDifference, ...]:
    by_name: dict[str, list[tuple[bool, bool]]] = {}
    for label, x, y in pairs:
        by_name.setdefault(label, []).append((x, y))
    counts = {name: tally(found) for name, found in sorted(by_name.items())}
    p = [mcnemar(won, lost) for _, won, lost, _ in counts.values()]
    told = []
    for (name, (both, won, lost, neither)), own, corrected in zip(counts.items(), p, holm(p), strict=True):
        n = both + won + lost + neither
        low, high = bootstrap(won, lost, n)
        decided = verdict(corrected, low, high)
        told.append(ClassDifference(name, n, both + won, both + lost, won, lost, own, corrected, low, high, decided))
    return tuple(told)


# ---- As text ---------------------------------------------------------------------------------------------------------


def difference_table(found: Sequence[Difference]) -> tuple[list[Column], list[list[Cell]]]:
    """Columns and rows, a row for each run that is set against the best."""
    columns = [Column("run"), Column("right"), *(Column(n, True) for n in ("behind", "95 % interval"))]
    columns += [*(Column(n, True) for n in ("best alone", "run alone", "p")), Column("verdict")]
    return columns, [
        [
            d.b,
            units.of(d.b_correct, d.images),
            f"{signed(d.points)} points",
            points_interval(d.low, d.high),
            d.won,
            d.lost,
            p_text(d.p),
            {"A is better": "behind", "B is better": "ahead"}.get(d.verdict, d.verdict),
        ]
        for d in found
    ]


def class_table(classes: Sequence[ClassDifference], a: str, b: str) -> tuple[list[Column], list[list[Cell]]]:
    columns = [Column("class"), *(Column(n, True) for n in ("images", f"{a} right", f"{b} right", "difference"))]
    columns += [Column("95 % interval", True), Column("p, corrected", True), Column("verdict")]
    names = {"A is better": f"{a} is better", "B is better": f"{b} is better"}
    return columns, [
        [
            c.name,
            c.images,
            c.a_correct,
            c.b_correct,
            f"{signed(100 * (c.a_correct - c.b_correct) / c.images)} points",
            points_interval(c.low, c.high),
            p_text(c.corrected),
            names.get(c.verdict, c.verdict),
        ]
        for c in classes
    ]


def signed(points: float) -> str:
    """ "+1.4", "-0.3", "0.0"."""
    shown = f"{abs(points):.1f}"
    return shown if float(shown) == 0 else f"{'+' if points > 0 else '-'}{shown}"


def points_interval(low: float, high: float) -> str:
    """Shares of one as percentage points: "-0.4 to +3.1"."""
    return f"{signed(100 * low)} to {signed(100 * high)}"


def p_text(p: float) -> str:
    return "under 0.0001" if p < 1e-4 else f"{p:.2g}" if p < 0.995 else "1"


def p_told(p: float) -> str:
    """ "p = 0.21", "p under 0.0001"."""
    return f"p {p_text(p)}" if p < 1e-4 else f"p = {p_text(p)}"


def _images(n: int) -> str:
    return "1 image" if n == 1 else f"{n:,} images"
