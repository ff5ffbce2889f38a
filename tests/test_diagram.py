"""The picture of a network: a page that needs nothing from outside, and a flowchart for Mermaid."""

import base64
import hashlib
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision import models

from convatlas.account import account
from convatlas.diagram import mermaid, page, window
from convatlas.errors import SaveFailed
from convatlas.table import Row, Table

ODD = '</script><script>alert(1)</script> "x" & <b>\u202e'


@cache
def table_of(name: str) -> Table:
    with torch.device("meta"):
        net = getattr(models, name)(weights=None, **({"init_weights": False} if name == "googlenet" else {}))
    return account(net.eval(), (3, 224, 224), name=name)


class Reader(HTMLParser):
    """Elements with their attributes, text of styles and scripts, and the visible text by class."""

    def __init__(self, html: str):
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.code: dict[str, list[str]] = {"script": [], "style": []}
        self.text = ""
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.text += " " if tag in ("dt", "dd", "li", "td", "p") else ""
        if tag not in ("meta", "wbr", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in self.code:
            self.code[self.open[-1]].append(data)
        else:
            self.text += data


def read(table: Table, folder: Path) -> Reader:
    return Reader(page(table, folder / "page.html").read_text(encoding="utf-8"))


def test_nothing_is_loaded_and_only_our_script_and_style_may_run(tmp_path: Path) -> None:
    reader = read(table_of("resnet18"), tmp_path)
    policy = next(a["content"] for _, a in reader.elements if a.get("http-equiv") == "Content-Security-Policy")
    (script,), (style,) = reader.code["script"], reader.code["style"]

    def allowed(inline: str) -> str:
        return f"'sha256-{base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()}'"

    assert policy == (
        "default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"style-src {allowed(style)}; script-src {allowed(script)}"
    )
    assert "url(" not in style and "@import" not in style
    for _, attributes in reader.elements:
        assert not {"src", "href", "style", "srcset"} & attributes.keys()
        assert not [name for name in attributes if name.startswith("on")]


def test_the_page_shows_totals_stages_kernels_and_the_whole_table(tmp_path: Path) -> None:
    table = table_of("googlenet")
    reader = read(table, tmp_path)
    text = re.sub(r"\s+", " ", reader.text)
    for part in (
        "13.0 M 13,004,888",  # torchvision prints 13004888 parameters, the auxiliary heads included
        "inception3a 20 operations 256x28x28",
        "conv1 7x7 / 2 64x112x112",
        "maxpool1 3x3 / 2 max_pool2d 64x56x56",
        "branch2 1x1, 3x3 128x28x28",
        "sees 7x7",
        "Every operation was counted.",
        "1 MAC = one multiply-add",
    ):
        assert part in text, part
    stages = [a for tag, a in reader.elements if tag == "ol" and a.get("class") == "branches"]
    assert len(stages) == 9
    assert table.as_html() in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_bars_are_shares_of_all_macs(tmp_path: Path) -> None:
    table = table_of("resnet18")
    bars = [a for tag, a in read(table, tmp_path).elements if tag == "rect"]
    widths = [float(a["width"] or "nan") for a in bars]
    (block,) = (r for r in table.rows if r.path == "conv1")
    assert widths[0] == pytest.approx(100 * block.macs / table.totals.macs, abs=0.01)
    assert min(widths) >= 0 and max(widths) <= 100
    nothing = replace(table, rows=tuple(replace(r, macs=0) for r in table.rows))
    assert not [tag for tag, _ in read(nothing, tmp_path).elements if tag == "rect"]


def test_it_folds_without_scripts_and_opens_branches_and_what_holds_most_macs(tmp_path: Path) -> None:
    def opened(name: str) -> dict[str | None, bool]:
        elements = read(table_of(name), tmp_path).elements
        modules = {}
        for i, (tag, attributes) in enumerate(elements):
            if tag == "details":
                title = next(a["title"] for t, a in elements[i:] if a.get("class") == "name")
                modules[title] = "open" in attributes
        return modules

    google = opened("googlenet")
    assert google["inception3a"] and not google["inception3a.branch2"] and not google["conv1"]
    dense = opened("densenet121")
    assert dense["features"] and not dense["features.denseblock1"]


def test_what_was_not_counted_and_what_is_unused_stand_on_top(tmp_path: Path) -> None:
    table = replace(table_of("resnet18"), uncounted=("fft_fft2",), unused=1234)
    text = re.sub(r"\s+", " ", read(table, tmp_path).text).split("From input to output")[0]
    assert "Not counted, no rule for: fft_fft2." in text
    assert "1,234 of the parameters are used by no operation of this pass." in text
    assert "Every operation was counted." not in text


def test_a_batch_is_left_out_of_shapes_and_said(tmp_path: Path) -> None:
    with torch.device("meta"):
        net = models.resnet18(weights=None)
    text = re.sub(r"\s+", " ", read(account(net.eval(), (8, 3, 64, 64)), tmp_path).text)
    assert "shapes are of one of its 8, counts of all" in text
    assert "conv1 7x7 / 2 conv2d 64x32x32 9.41 k parameters 77.1 M MACs" in text  # 9408 x 32 x 32 x 8


def test_names_are_shown_as_text(tmp_path: Path) -> None:
    rows = tuple(replace(r, path=f"{ODD}.{r.path}") for r in table_of("resnet18").rows[:4])
    reader = read(Table(ODD, ((1, 3, 224, 224),), rows, uncounted=(ODD,)), tmp_path)
    assert len(reader.code["script"]) == 1
    assert '</script><script>alert(1)</script> "x" & <b>[U+202E]' in reader.text
    assert "\u202e" not in reader.text


def test_a_table_without_rows_and_one_without_maps(tmp_path: Path) -> None:
    assert "From input to output" in read(Table("nothing", ((1, 3, 8, 8),), ()), tmp_path).text
    row = Row("", "linear", ((5, 1),), (5, 1), 1, 5, 5, 20)
    assert "linear" in read(Table("one", ((5, 1),), (row,), convention=""), tmp_path).text


def test_a_refusal_of_the_disk_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveFailed) as caught:
        page(table_of("resnet18"), tmp_path / "file" / "page.html")
    assert "\n" not in str(caught.value)


def test_a_deep_network_stays_under_a_megabyte(tmp_path: Path) -> None:
    assert page(table_of("resnet152"), tmp_path / "page.html").stat().st_size < 1_000_000


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        ({}, ""),
        ({"kernel": (7, 7), "stride": (2, 2), "padding": (3, 3), "dilation": (1, 1), "groups": 1}, "7x7 / 2"),
        ({"kernel": (3, 3), "stride": (1, 1), "dilation": (2, 2), "groups": 32}, "3x3 (32 groups, dilation 2)"),
        ({"kernel": (1, 7), "stride": (1, 2), "dilation": (1, 1)}, "1x7 / 1x2"),
        ({"kernel": (5,), "stride": (3,)}, "5 / 3"),
        ({"kernel": 2, "stride": 2}, "2 / 2"),
    ],
)
def test_kernels_read_as_in_papers(setting: dict, text: str) -> None:
    assert window(Row("", "conv2d", (), (), 0, 0, 0, 0, setting=setting)) == text


LABEL = r'"(?:[^"<>&;`\[\]{}|]|#\d+;|<br>)*"'
GRAMMAR = re.compile(
    rf'(?:flowchart TD| +input\(\[{LABEL}\]\)| +n\d+\[{LABEL}\]| +subgraph g\d+\[{LABEL}\]| +end'
    r"| +(?:input|n\d+) (?:-->|-\.->) n\d+)"
)  # fmt: skip


def checked(chart: str) -> list[str]:
    """The lines: each of a form that Mermaid's own parser takes, subgraphs closed, arrows between known nodes."""
    lines = chart.splitlines()
    assert lines[0] == "flowchart TD"
    for line in lines:
        assert GRAMMAR.fullmatch(line), line
    words = [line.split()[0].split("[")[0].split("(")[0] for line in lines]
    assert words.count("subgraph") == words.count("end")
    nodes = {w for line, w in zip(lines, words, strict=True) if "[" in line and w != "subgraph"}
    arrows = [line.split() for line in lines if line.split()[1:2] in (["-->"], ["-.->"])]
    assert {name for a, _, b in arrows for name in (a, b)} <= nodes
    assert {b for _, _, b in arrows} == nodes - {"input"}
    return lines


def test_a_flowchart_has_the_stages_in_order() -> None:
    table = table_of("resnet18")
    lines = checked(mermaid(table))
    assert lines[:6] == [
        "flowchart TD",
        '    input(["input<br>3x224x224"])',
        '    n1["conv1<br>64x112x112<br>9.41 k, 118 M"]',
        '    n2["bn1<br>64x112x112<br>128, 0"]',
        '    n3["relu<br>64x112x112"]',
        '    n4["maxpool<br>64x56x56"]',
    ]
    names = [line.split('["')[1].split("<br>")[0] for line in lines[2:12]]
    assert names == [r.path or r.op for r in table.stages().rows if r.op != "flatten"]
    assert lines[12:] == [
        "    input --> n1",
        *(f"    n{i} --> n{i + 1}" for i in range(1, 10)),
    ]


def test_branches_of_a_flowchart_leave_one_node_and_meet_in_another() -> None:
    lines = checked(mermaid(table_of("googlenet"), 2))
    start = lines.index('    subgraph g15["inception3a"]')
    ids = [line.split("[")[0].strip() for line in lines[start + 1 : start + 6]]
    assert lines[start + 5].endswith('["cat<br>256x28x28"]')
    arrows = [line.strip() for line in lines]
    pool = lines[start - 1].split("[")[0].strip()
    for branch in ids[:4]:
        assert f"{pool} --> {branch}" in arrows
        assert f"{branch} --> {ids[4]}" in arrows


def test_a_shortcut_is_an_arrow_around_dotted_where_it_is_only_likely() -> None:
    assert sum("-.->" in line for line in checked(mermaid(table_of("resnet18"), 3))) == 5  # of 8; 3 have a projection
    assert sum("-.->" in line for line in checked(mermaid(table_of("resnet18"), 1))) == 0


@given(st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=3), st.integers(1, 4))
def test_any_name_makes_a_valid_flowchart(names: list[str], depth: int) -> None:
    path = ".".join(names)
    rows = tuple(Row(p, "relu", ((1, 4),), (1, 4), 1, 2, 3, 4) for p in (path, path, f"{path}.end", ""))
    checked(mermaid(Table("n", ((1, 4),), rows), depth))
