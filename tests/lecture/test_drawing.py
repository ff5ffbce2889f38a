"""The lecture's own charts: their bars against the printed figures and the modules' products."""

import pytest

from convatlas.catalogue import table
from convatlas.lecture.drawing import memory_and_parameters, module_operations, winners
from convatlas.lecture.page import parts
from convatlas.lecture.words import words

SAY = words("en")


def test_the_years_are_those_of_the_slide() -> None:
    (chart,) = next(s for s in parts() if s.key == "winners").charts
    slide = ["28.2", "25.8", "16.4", "11.7", "7.3", "6.7", "3.57"]
    assert [row[1] for row in chart.rows] == slide
    assert [row[2] for row in chart.rows] == [None, None, 8, 8, 19, 22, 152]
    assert [row[0].split()[0] for row in chart.rows] == ["2010", "2011", "2012", "2013", "2014", "2014", "2015"]


def test_a_year_without_its_figure_is_an_error() -> None:
    with pytest.raises(KeyError):
        winners({}, SAY)


def test_the_shares_of_vgg_16_are_those_that_the_lecture_speaks_of() -> None:
    values = memory_and_parameters(SAY).spec["data"]["values"]
    for kind in ("numbers kept", "parameters"):
        assert sum(v["share"] for v in values if v["kind"] == kind) == pytest.approx(100)
    early = sum(v["share"] for v in values if v["kind"] == "numbers kept" and v["layer"].startswith("conv1"))
    late = sum(v["share"] for v in values if v["kind"] == "parameters" and v["layer"].startswith("fc"))
    assert (round(early), round(late)) == (42, 89)


def test_the_modules_bars_sum_to_what_was_counted_and_to_the_lectures_sum() -> None:
    chart = module_operations(SAY)
    sums: dict[str, int] = {}
    for name, _, macs in chart.rows:
        sums[name] = sums.get(name, 0) + macs
    assert list(sums.values()) == [
        table("inception_naive").totals.macs,
        table("inception_reduced").totals.macs,
        358_055_936,
    ]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_charts_are_drawn_in_both_languages(language: str) -> None:
    say = words(language)
    for chart in (memory_and_parameters(say), module_operations(say)):
        assert chart.svg().startswith("<svg")
        assert ("VGG-16" in chart.description) or ("MACs" in str(chart.spec))
