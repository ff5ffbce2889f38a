"""Columns and rows as text, Markdown, CSV or HTML: how every verb prints a table."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape


@dataclass(frozen=True)
class Column:
    """A heading; numbers are set to the right."""

    name: str
    number: bool = False


Cell = str | int | float | None


def text(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], total: Sequence[Cell] | None = None) -> str:
    """Aligned columns for a terminal, with a rule above the totals; None is an empty cell."""
    lines = [[c.name for c in columns], *([_cell(v) for v in row] for row in rows)]
    if total is not None:
        lines.append([_cell(v) for v in total])
    widths = [max(_width(line[i]) for line in lines) for i in range(len(columns))]
    out = ["  ".join(_pad(v, w, c.number) for v, w, c in zip(line, widths, columns, strict=True)) for line in lines]
    rule = "  ".join("─" * w for w in widths)
    out.insert(1, rule)
    if total is not None:
        out.insert(len(out) - 1, rule)
    return "\n".join(line.rstrip() for line in out)


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
