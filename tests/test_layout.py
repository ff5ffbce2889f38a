"""Columns as text, Markdown, CSV and HTML."""

import csv
import io
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from convatlas.layout import SPARE, Column, csv_text, html, markdown, text

COLUMNS = (Column("name"), Column("count", True))
cells = st.text(st.characters(blacklist_categories=("Cs", "Cc")), max_size=20)
rows = st.lists(st.tuples(cells, st.integers(0, 10**12)), max_size=8)


def test_text_aligns_numbers_to_the_right_and_sets_totals_apart() -> None:
    assert text(COLUMNS, [["a", 1], ["long name", 25557032]], ["total", 25557033]) == (
        "name            count\n"
        "─────────  ──────────\n"
        "a                   1\n"
        "long name  25,557,032\n"
        "─────────  ──────────\n"
        "total      25,557,033"
    )


def test_chinese_characters_take_two_columns() -> None:
    lines = text(COLUMNS, [["卷积", 1], ["conv", 22]]).splitlines()
    assert lines[2:] == ["卷积      1", "conv     22"]


WIDE = tuple(Column(name, True) for name in ("module", "input", "output", "MACs", "activations", "field", "stride"))


def test_a_text_for_a_width_leaves_out_the_least_asked_for_first() -> None:
    row = ["conv1", "1x3x8x8", "1x4x8x8", 6912, "1.02 kB", "3", "1"]
    assert text(WIDE, [row], width=51).endswith("\n\nLeft out to fit 51 columns: stride.")
    assert text(WIDE, [row], width=50) == (
        "module   output   MACs  activations  field\n"
        "──────  ───────  ─────  ───────────  ─────\n"
        " conv1  1x4x8x8  6,912      1.02 kB      3\n"
        "\n"
        "Left out to fit 50 columns: input, stride."
    )


@given(st.integers(1, 90), st.permutations(WIDE), st.data())
def test_a_text_fits_where_it_can_and_keeps_all_else(width: int, columns: list[Column], data: st.DataObject) -> None:
    row = data.draw(st.lists(cells, min_size=len(WIDE), max_size=len(WIDE)))
    whole, fitted = text(columns, [row]), text(columns, [row], width=width)
    headings = fitted.splitlines()[0].split()
    dropped = [name for name in SPARE if name in {c.name for c in columns} and name not in headings]
    here = [name for name in SPARE if name in {c.name for c in columns}]
    assert dropped == here[: len(dropped)]
    assert [c.name for c in columns if c.name not in dropped] == headings
    rule = fitted.splitlines()[1]
    assert len(rule) <= width or dropped == here
    if len(whole.splitlines()[1]) <= width:
        assert fitted == whole


def test_markdown() -> None:
    assert markdown(COLUMNS, [["a|b", None]], ["total", 3]) == (
        "| name | count |\n| --- | --: |\n| a\\|b |  |\n| **total** | **3** |"
    )


@given(rows)
def test_csv_reads_back(rows: list[tuple[str, int]]) -> None:
    back = list(csv.reader(io.StringIO(csv_text(COLUMNS, rows))))
    assert back == [["name", "count"], *([a, str(n)] for a, n in rows)]


@given(rows)
def test_html_shows_every_cell_as_text(rows: list[tuple[str, int]]) -> None:
    class Reader(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.tags: set[str] = set()
            self.cells: list[str] = []

        def handle_starttag(self, tag: str, attrs: object) -> None:
            self.tags.add(tag)
            if tag in ("td", "th"):
                self.cells.append("")

        def handle_data(self, data: str) -> None:
            self.cells[-1] += data

    reader = Reader()
    reader.feed(html(COLUMNS, rows))
    assert reader.tags <= {"table", "thead", "tbody", "tr", "th", "td"}
    assert reader.cells == ["name", "count", *(c for a, n in rows for c in (a, f"{n:,}"))]
