"""A CSV file that lists images: path and label, and the split where it says so."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ..errors import BadData
from . import classes
from .decoding import printable
from .folders import ROLES
from .sets import Source, Split
from .stored import Listed

ENDINGS = (".csv", ".tsv")
BYTES = 2_000_000_000
DELIMITERS = ",;\t"
PATH, LABEL, SPLIT = ("path", "file", "filename", "image"), ("label", "class"), ("split",)
EXPECTED = "a header with path and label, or two columns without one"


def read(path: Path) -> Source:
    """Images by the list, in its order within each class; class order is the plain string order.

    Paths are relative to the list's folder. Raises BadData that names the line.
    """
    rows = _rows(path)
    roles = [role for role in ("train", "validation", "test", "") if any(row[3] == role for row in rows)]
    splits: dict[str, Split] = {}
    known: tuple[str, ...] = ()
    for role in roles:
        part = [row for row in rows if row[3] == role]
        own = sorted({row[2] for row in part})
        known = known or tuple(own)
        place = f"{role} in {printable(str(path))}"
        number = dict(zip(own, classes.numbers(own, known, place, roles[0]), strict=True))
        part.sort(key=lambda row: number[row[2]])
        labels = np.array([number[row[2]] for row in part], np.int64)
        splits[role] = Split(role or "all", labels, None, Listed(tuple(row[1] for row in part), path.parent), known)
    if len(known) < 2:
        raise BadData(f"{printable(str(path))} has one class, {known[0]!r}; a classifier needs two or more")
    return Source(splits, known, None)


def _rows(path: Path) -> list[tuple[int, str, str, str]]:
    """Line number, path, label and split ("" without that column) of each image."""
    said = printable(str(path))
    rows: list[tuple[int, str, str, str]] = []
    seen: dict[str, tuple[int, str, str]] = {}
    for line, name, label, split in _cells(path):
        if not name:
            raise BadData(f"line {line} of {said} has no path; give a path and a label")
        if not classes.is_plain(label):
            what = f"the label '{printable(label)}', which is no plain text" if label else "no label"
            raise BadData(f"line {line} of {said} has {what}; give a path and a label")
        if split is not None and split.lower() not in ROLES:
            raise BadData(f"line {line} of {said} has the split '{printable(split)}'; give train, validation or test")
        role = "" if split is None else ROLES[split.lower()]
        before = seen.setdefault(name, (line, label, role))
        if before[1:] != (label, role):
            first, other = (f"{x!r}" for x in ((label, before[1]) if label != before[1] else (role, before[2])))
            raise BadData(f"line {line} of {said} gives {printable(name)} as {first}, line {before[0]} as {other}")
        rows.append((line, name, label, role))
    if not rows:
        raise BadData(f"{said} lists no image; give {EXPECTED}")
    return rows


def _cells(path: Path) -> Iterator[tuple[int, str, str, str | None]]:
    """Line number and the stripped cells for path, label and split."""
    said = printable(str(path))
    text = _text(path)
    start, first = next(((n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()), (0, ""))
    if not first:
        return
    delimiter, places = _columns(first, f"line {start} of {said}")
    header = places is not None
    at, columns = places or ((0, 1, None), 2)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if header:
                header = False
                continue
            if len(row) != columns:
                raise BadData(f"line {reader.line_num} of {said} has {len(row)} columns, expected {columns}")
            cells = [None if place is None else row[place].strip() for place in at]
            yield reader.line_num, cells[0] or "", cells[1] or "", cells[2]
    except csv.Error as error:
        raise BadData(f"line {reader.line_num} of {said} is no CSV: {error}") from None


def _columns(first: str, said: str) -> tuple[str, tuple[tuple[int, int, int | None], int] | None]:
    """The delimiter by the first line; and where it is a header, the places of path, label and split, and how many."""
    two = None
    for delimiter in DELIMITERS:
        try:
            cells = next(csv.reader([first], delimiter=delimiter), [])
        except csv.Error:
            continue
        names = [cell.strip().lower() for cell in cells]
        places = [[i for i, name in enumerate(names) if name in known] for known in (PATH, LABEL, SPLIT)]
        if places[0] and places[1]:
            if max(map(len, places)) > 1:
                raise BadData(f"{said} names path, label or split twice; give one column of each")
            return delimiter, ((places[0][0], places[1][0], places[2][0] if places[2] else None), len(cells))
        if len(cells) == 2 and two is None:
            two = delimiter
    if two is None:
        raise BadData(f"{said} is '{printable(first[:60])}'; give {EXPECTED}, split by , ; or tab")
    return two, None


def _text(path: Path) -> str:
    size = path.stat().st_size
    if size > BYTES:
        raise BadData(f"{printable(str(path))} has {size:,} bytes, more than the {BYTES:,} allowed")
    content = path.read_bytes()
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise BadData(f"line {line} of {printable(str(path))} is not UTF-8 text; save it as UTF-8") from None
