"""All charts of a comparison: which there are, that they say in words and tables what they show, in any language."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import altair
import pytest
import vl_convert
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from convatlas import charts
from convatlas.charts import Chart
from convatlas.compare import Comparison, Epoch
from convatlas.errors import UsageError
from convatlas.result import Accuracy

from .conftest import HOSTILE, MIXED, NOTHING, RUNS, SMALL, entry

NAMES = ["accuracy", "accuracy-macs", "accuracy-time", "time-batch", "memory-batch", "energy-batch"]
NAMES += ["macs-time-1", "macs-time-16", "memory-parameters", "density", "training"]


@pytest.fixture(scope="module")
def drawn() -> list[Chart]:
    return charts.charts(RUNS)


def test_every_chart_has_words_a_table_and_the_schema_s_form(drawn: list[Chart]) -> None:
    assert [c.name for c in drawn] == NAMES
    for chart in drawn:
        assert chart.spec["description"] == chart.description and "3 runs" in chart.description
        assert {"small", "middle", "large"} <= {row[0] for row in chart.rows}
        assert all(len(row) == len(chart.columns) for row in chart.rows)
        assert "$schema" not in chart.spec and "http" not in str(chart.spec)
        altair.LayerChart.from_dict(chart.spec, validate=True)
        compiled = vl_convert.vegalite_to_vega(chart.spec)
        assert {"highlight", "lit", "pointed"} <= {s["name"] for s in compiled["signals"]}


AXES = {
    "accuracy": ["Top-1 accuracy (test), %", "83.3 %", "98.6 %"],
    "accuracy-macs": ["Top-1 accuracy (test), %", "Multiply-adds of one image, MACs (log scale)", "Parameters"],
    "accuracy-time": ["Forward time of one image, ms (log scale)", "Peak memory, MB"],
    "time-batch": ["Forward time of a batch, ms (log scale)", "Batch size, images (log scale)", "openvino"],
    "memory-batch": ["Peak memory, MB", "process without a network"],
    "energy-batch": ["Energy of one image, J"],
    "macs-time-1": ["Forward time of one image in a batch of 1, ms"],
    "macs-time-16": ["Forward time of one image in a batch of 16, ms"],
    "memory-parameters": ["Parameters", "Peak memory, MB"],
    "density": ["Points of accuracy per million parameters (log scale)"],
    "training": ["Error, %", "Epoch", "validation"],
}


def test_axes_and_names_are_drawn(drawn: list[Chart]) -> None:
    for chart in drawn:
        svg = chart.svg()
        for text in (*AXES[chart.name], "small", "large"):
            assert f">{text}</text>" in svg, f"{chart.name} lacks {text!r}"


def test_nothing_is_dimmed_in_a_still_picture_and_all_but_one_when_a_run_is_lifted_out(drawn: list[Chart]) -> None:
    for chart in drawn:
        faint = set(re.findall(r' opacity="(0?\.\d+)"', chart.svg()))
        assert min((float(o) for o in faint), default=1) >= 0.28, chart.name
        lifted = replace(chart, spec={**chart.spec, "params": [dict(p) for p in chart.spec["params"]]})
        lifted.spec["params"][0]["value"] = "small"
        assert re.search(r' opacity="0\.1', lifted.svg()), chart.name


def test_without_figures_there_is_no_chart() -> None:
    assert charts.charts(NOTHING) == []
    assert charts.charts(Comparison((), (), ())) == []


def test_a_run_without_one_figure_is_left_out_of_its_charts_alone() -> None:
    times = tuple(replace(t, peak_bytes=None, joules=None) for t in SMALL.timings)
    curves = tuple(replace(c, timings=times, bare_bytes=None) for c in SMALL.curves)
    names = [c.name for c in charts.charts(Comparison((replace(SMALL, timings=times, curves=curves),), (), ()))]
    assert names == ["accuracy", "accuracy-macs", "accuracy-time", "time-batch", "density", "training"]


def test_one_run_and_equal_figures_can_be_drawn() -> None:
    one = replace(RUNS, entries=RUNS.entries[:1])
    perfect = replace(RUNS, entries=tuple(replace(e, accuracy=Accuracy(360, 360, 360)) for e in RUNS.entries))
    wrong = replace(RUNS, entries=tuple(replace(e, accuracy=Accuracy(0, 0, 360)) for e in RUNS.entries))
    done = replace(RUNS, entries=tuple(replace(e, curve=(Epoch(1, 0.0, None),)) for e in RUNS.entries))
    for compared in (one, perfect, wrong, done):
        for chart in charts.charts(compared):
            svg = chart.svg()
            assert "NaN" not in svg and "undefined" not in svg, chart.name
    for chart in charts.charts(one):
        if chart.name not in ("accuracy", "density"):
            assert re.search(r'fill="#0072b2" stroke="#0072b2"', chart.svg()), f"{chart.name} has no point"


def test_hostile_names_are_drawn_as_text() -> None:
    compared = replace(RUNS, entries=(replace(SMALL, name=HOSTILE), *RUNS.entries[1:]))
    for chart in charts.charts(compared):
        svg = chart.svg()
        assert "<script" not in svg and "{{7*7}}" in svg and "&lt;script&gt;" in svg, chart.name
        assert HOSTILE in {row[0] for row in chart.rows}


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.text(max_size=40), min_size=2, max_size=4, unique=True))
@example(["", "00\x1f\x1f\x1f\U00010000\U000100000"])
def test_any_name_gives_charts_that_can_be_read(names: list[str]) -> None:
    from xml.etree import ElementTree

    entries = [entry(name, 340 - i, 1000 * (i + 1), 9000 * (i + 1), 1 + i) for i, name in enumerate(names)]
    compared = Comparison(tuple(entries), (), ())
    for chart in (charts.accuracy_bars(compared), charts.time_against_batch(compared)):
        assert chart is not None
        ElementTree.fromstring(chart.svg())
        shown = {str(row[0]) for row in chart.rows}
        assert len(shown) == len(names) and all(name.strip() for name in shown)
        assert json.loads(json.dumps(chart.spec)) == chart.spec


def test_chinese_charts_say_the_same_figures() -> None:
    for english, chinese in zip(charts.charts(MIXED), charts.charts(MIXED, "zh"), strict=True):
        assert english.name == chinese.name and len(english.rows) == len(chinese.rows)
        assert re.search("[一-鿿]", chinese.title) and re.search("[一-鿿]", chinese.description)
        numbers = [
            re.findall(r"\d+(?:\.\d+)?", re.sub("95 ?%|R²|top-1", "", c.description)) for c in (english, chinese)
        ]
        assert sorted(numbers[0]) == sorted(numbers[1]), english.name
        assert not re.search("{[a-z]", chinese.description)


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(UsageError) as error:
        charts.charts(RUNS, "tlh")
    assert str(error.value) == "no language named 'tlh'; give one of en, zh"


PAGE = """<!doctype html><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="script-src 'unsafe-inline'">
<div id="chart" style="width: 800px"></div><script>LIBRARY</script><script>
const options = {mode: "vega-lite", renderer: "svg", actions: false, ast: true};
vegaEmbed("#chart", SPEC, options).then((drawn) => { window.view = drawn.view; });
</script>"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["accuracy-macs", "time-batch", "training"])
def test_a_browser_lifts_a_run_out_by_signal_pointer_and_legend(drawn: list[Chart], name: str, tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("no Chromium here: that charts answer to the pointer is not tested")
    from playwright.sync_api import sync_playwright

    chart = next(c for c in drawn if c.name == name)
    library = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    page_file = tmp_path / "page.html"
    spec = json.dumps(chart.spec).replace("<", "\\u003c")
    page_file.write_text(PAGE.replace("SPEC", spec).replace("LIBRARY", library))
    said: list[str] = []
    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        page = opened.new_page(viewport={"width": 900, "height": 700})
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(page_file.as_uri())
        page.wait_for_function("window.view")

        def lit() -> str:
            page.wait_for_timeout(150)
            return str(page.evaluate("view.signal('lit')"))

        assert lit() == ""
        page.evaluate("() => { view.signal('highlight', 'middle').run(); }")
        assert lit() == "middle"
        page.evaluate("() => { view.signal('highlight', '').run(); }")
        page.query_selector_all("[class*=points_marks] path")[0].hover(force=True)
        assert lit() == "small"
        page.mouse.move(1, 1)
        assert lit() == ""
        page.locator(".role-legend-label").get_by_text("large", exact=True).first.click()
        assert lit() == "large"
        opened.close()
    assert said == []
