"""Columns and rows as text, Markdown, CSV or HTML: how every verb prints a table."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from textwrap import wrap


@dataclass(frozen=True)
class Column:
    """A heading; numbers are set to the right."""

    name: str
    number: bool = False


Cell = str | int | float | None


# What a text that is too wide does without, first what is least asked for.
SPARE = ("offset", "saved", "backward MACs", "stride", "input", "share", "field", "activations")


def text(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    total: Sequence[Cell] | None = None,
    width: int | None = None,
) -> str:
    """Aligned columns for a terminal, with a rule above the totals; None is an empty cell.

    With a `width`, columns of SPARE are left out in that order until the text is not wider, and named in a last line.
    It stays wider where the others do not fit.
    """
    lines = [[c.name for c in columns], *([_cell(v) for v in row] for row in rows)]
    if total is not None:
        lines.append([_cell(v) for v in total])
    widths = [max(_width(line[i]) for line in lines) for i in range(len(columns))]
    shown = _fitting(columns, widths, width)
    out = ["  ".join(_pad(line[i], widths[i], columns[i].number) for i in shown) for line in lines]
    rule = "  ".join("─" * widths[i] for i in shown)
    out.insert(1, rule)
    if total is not None:
        out.insert(len(out) - 1, rule)
    if len(shown) < len(columns):
        missing = ", ".join(c.name for i, c in enumerate(columns) if i not in shown)
        out += ["", *wrap(f"Left out to fit {width} columns: {missing}.", max(width or 0, 20))]
    return "\n".join(line.rstrip() for line in out)


def _fitting(columns: Sequence[Column], widths: Sequence[int], width: int | None) -> list[int]:
    """Which columns fit; all of them without a width."""
    shown = list(range(len(columns)))
    for name in SPARE:
        if width is None or sum(widths[i] for i in shown) + 2 * (len(shown) - 1) <= width:
            break
        shown = [i for i in shown if columns[i].name != name]
    return shown


def markdown(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], total: Sequence[Cell] | None = None) -> str:
    """A GitHub table; the totals are bold."""
    out = [[c.name for c in columns], ["--:" if c.number else "---" for c in columns]]
    out += [[_cell(v).replace("|", "\\|") for v in row] for row in rows]
    if total is not None:
        out.append([f"**{_cell(v)}**" if _cell(v) else "" for v in total])
    return "\n".join(f"| {' | '.join(line)} |" for line in out)


def csv_text(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> str:
    """Comma-separated values (RFC 4180 quoting) with one heading line."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([c.name for c in columns])
    writer.writerows([["" if v is None else v for v in row] for row in rows])
    return out.getvalue().rstrip("\n")


def html(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], total: Sequence[Cell] | None = None) -> str:
    """A bare <table>; every cell is escaped."""

    def line(cells: Sequence[Cell], tag: str) -> str:
        marks = (' class="number"' if c.number else "" for c in columns)
        return (
            "<tr>"
            + "".join(f"<{tag}{m}>{escape(_cell(v))}</{tag}>" for v, m in zip(cells, marks, strict=True))
            + "</tr>"
        )

    head = f"<thead>{line([c.name for c in columns], 'th')}</thead>"
    body = "<tbody>" + "".join(line(row, "td") for row in rows) + "</tbody>"
    foot = f"<tfoot>{line(total, 'td')}</tfoot>" if total is not None else ""
    return f"<table>{head}{body}{foot}</table>"


def _cell(value: Cell) -> str:
    if value is None:
        return ""
    return f"{value:,}" if isinstance(value, int) else str(value)


def _width(cell: str) -> int:
    """Columns that a terminal gives the text; Chinese characters take two."""
    from unicodedata import east_asian_width

    return len(cell) if cell.isascii() else sum(2 if east_asian_width(c) in "WF" else 1 for c in cell)


def _pad(cell: str, width: int, right: bool) -> str:
    space = " " * (width - _width(cell))
    return space + cell if right else cell + space
