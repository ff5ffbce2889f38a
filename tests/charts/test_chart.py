"""Charts as files: their form, their ink, their ground, and what the disk refuses."""

import struct
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from convatlas.charts import Chart, accuracy_bars
from convatlas.errors import SaveFailed, UsageError

from .conftest import RUNS, SMALL


@pytest.fixture(scope="module")
def chart() -> Chart:
    named = replace(RUNS, entries=(replace(SMALL, name="currentColor"), *RUNS.entries[1:]))
    drawn = accuracy_bars(named)
    assert drawn is not None
    return drawn


def test_each_format_is_written_under_the_chart_s_name(chart: Chart, tmp_path: Path) -> None:
    paths = chart.write(tmp_path / "new" / "folder")
    assert [p.name for p in paths] == ["accuracy.svg", "accuracy.png", "accuracy.pdf"]
    svg, png, pdf = (p.read_bytes() for p in paths)
    assert ElementTree.fromstring(svg.decode()).tag.endswith("svg")
    assert png[:8] == b"\x89PNG\r\n\x1a\n" and pdf[:5] == b"%PDF-" and b"/Font" in pdf
    assert chart.write(tmp_path, ["pdf"]) == [tmp_path / "accuracy.pdf"]


def test_files_have_black_ink_and_a_run_may_be_called_like_a_colour(chart: Chart, tmp_path: Path) -> None:
    page, paper = chart.svg(), chart.write(tmp_path, ["svg"])[0].read_text()
    assert 'fill="currentColor"' in page and ">currentColor</text>" in page
    assert 'fill="currentColor"' not in paper and 'stroke="currentColor"' not in paper
    assert ">currentColor</text>" in paper and "system-ui" not in paper


def test_a_picture_grows_with_its_scale_and_stands_on_white(chart: Chart) -> None:
    from io import BytesIO

    from PIL import Image

    small, large = chart.png(1), chart.png(3)
    sizes = [struct.unpack(">II", data[16:24]) for data in (small, large)]
    assert sizes[1] == pytest.approx([3 * n for n in sizes[0]], abs=2)
    picture = Image.open(BytesIO(small)).convert("RGBA")
    assert picture.getpixel((1, 1)) == (255, 255, 255, 255)
    assert min(sum(p[:3]) for p in picture.get_flattened_data()) < 60  # black text


def test_the_still_picture_can_be_narrow(chart: Chart) -> None:
    def width(svg: str) -> float:
        return float(ElementTree.fromstring(svg).attrib["width"])

    assert width(chart.svg()) - width(chart.svg(200)) == pytest.approx(480, abs=30)  # less what a title overhangs


def test_an_unknown_format_and_a_refusing_disk_are_told(chart: Chart, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        chart.write(tmp_path, ["svg", "gif"])
    assert str(error.value) == "no chart can be written as 'gif'; give some of svg, png, pdf"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("mine")
    with pytest.raises(SaveFailed) as refused:
        chart.write(tmp_path / "file")
    assert str(tmp_path / "file") in str(refused.value) and (tmp_path / "file").read_text() == "mine"
