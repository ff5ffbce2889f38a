"""What a run answered to each image of its test split, from its answers.csv."""

import csv
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..result import DataStamp, Result

COLUMNS = ["image", "label", "answer", "right"]  # the first ones of the file; probabilities follow
KEPT = 32  # files of answers that stay in memory: a report of 20 runs sets each against the best


@dataclass(frozen=True, eq=False)
class Answers:
    """One row an image: by its name (and its number among images of that name), the label and whether it was right."""

    rows: dict[tuple[str, int], tuple[str, bool]]

    @property
    def correct(self) -> int:
        return sum(right for _, right in self.rows.values())

    def under(self) -> "Answers":
        """The same without the folders that all names begin with, which say only where the data lay."""
        first, last = min(self.rows)[0], max(self.rows)[0]
        same = next(
            (i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last))
        )
        start = first[:same].rfind("/") + 1
        return Answers({(name[start:], n): row for (name, n), row in self.rows.items()})


def read_answers(path: Path) -> Answers:
    """Raises FileNotFoundError, or ValueError that says what is wrong with the file."""
    stamp = path.stat()
    return _read(path, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=KEPT)
def _read(path: Path, changed: int, size: int) -> Answers:
    """`changed` and `size` are there so that a file that was written anew is read anew."""
    rows: dict[tuple[str, int], tuple[str, bool]] = {}
    seen: Counter[str] = Counter()
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file)
        try:
            heading = next(lines, [])
            if heading[: len(COLUMNS)] != COLUMNS:
                raise ValueError(f"its first line is not {','.join(COLUMNS)},...")
            for number, line in enumerate(lines, 2):
                if len(line) != len(heading) or line[3] not in ("0", "1"):
                    raise ValueError(f"row {number} is damaged")
                rows[line[0], seen[line[0]]] = line[1], line[3] == "1"
                seen[line[0]] += 1
        except csv.Error as error:
            raise ValueError(str(error)) from None
    if not rows:
        raise ValueError("it holds no image")
    return Answers(rows)


def stamped(folder: Path, results: Sequence[Result]) -> tuple[DataStamp | None, str]:
    """The images that a run's answers.csv is of, and why it cannot be used; (None, "") where there is none.

    The file does not say it itself: it is of the newest result with as many images and as many right.
    """
    path = folder / "answers.csv"
    try:
        found = read_answers(path)
    except FileNotFoundError:
        return None, ""
    except (OSError, ValueError) as error:
        return None, f"answers.csv cannot be used: {error}"
    of = next((r.data for r in reversed(results) if r.data and _counts(r) == (found.correct, len(found.rows))), None)
    if of is None:
        told = f"{found.correct:,} of {len(found.rows):,} right"
        return None, f"answers.csv cannot be used: it has {told}, which no line of results.json has"
    return of, ""


def _counts(r: Result) -> tuple[int, int] | None:
    return (r.accuracy.correct, r.accuracy.images) if r.accuracy else None


def matched(a: Answers, b: Answers) -> tuple[list[tuple[str, bool, bool]], int, str]:
    """Images that both answered, each with its label and whether A and B were right, in A's order.

    Then how many images only one of them has, and one whose label differs ("" where none does).
    """
    if not a.rows.keys() & b.rows.keys():
        a, b = a.under(), b.under()
    pairs, clash = [], ""
    for key, (label, right) in a.rows.items():
        if key in b.rows:
            other, theirs = b.rows[key]
            clash = clash or (key[0] if label != other else "")
            pairs.append((label, right, theirs))
    return pairs, len(a.rows) + len(b.rows) - 2 * len(pairs), clash


def tally(pairs: Iterable[tuple[bool, bool]]) -> tuple[int, int, int, int]:
    """How many both answered right, A alone, B alone, and neither."""
    counts = Counter(pairs)
    return counts[True, True], counts[True, False], counts[False, True], counts[False, False]
