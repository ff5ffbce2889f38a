"""The lecture's page: every section and chart, both languages, nothing from outside, no torch."""

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from convatlas.claims import DIFFERS, claims
from convatlas.errors import UsageError
from convatlas.lecture import lecture
from convatlas.lecture.measured import LABELS
from convatlas.lecture.page import parts
from convatlas.lecture.section import MEASURED, UNMEASURABLE, UNMEASURED

from .conftest import NO_COUNTER, Archive, measurement

SECTIONS = (
    *("lenet", "alexnet", "alexnet-training", "winners", "zfnet", "depth", "field", "vgg-memory", "googlenet"),
    *("inception-naive", "inception-reduced", "degradation", "residual", "resnet", "bottleneck", "resnet-training"),
    *("resnet-results", "accuracy", "time", "memory", "power", "nin"),
)
PRINTED = ["winners", "vgg-memory", "inception-operations", "accuracy", "accuracy-macs", "density"]
TIMED = ["time-batch", "macs-time-1", "macs-time-16", "accuracy-time", "memory-batch", "memory-parameters"]


class Text(HTMLParser):
    """The words that a reader sees, without code, pictures and scripts."""

    HIDDEN = ("script", "style", "svg", "code", "pre")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.inside: list[str] = []
        self.texts: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag in self.HIDDEN:
            self.inside.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.inside and self.inside[-1] == tag:
            self.inside.pop()

    def handle_data(self, data: str) -> None:
        if not self.inside and data.strip():
            self.texts.append(data.strip())


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    return lecture(folder / "lecture.html", archive=folder / "none").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def chinese(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("page")
    return lecture(folder / "lecture.html", archive=folder / "none", language="zh").read_text(encoding="utf-8")


def test_every_section_is_there_in_the_lectures_order(page: str) -> None:
    assert tuple(re.findall(r'<h2 id="([\w-]+)"', page)) == SECTIONS
    assert re.findall(r'<li><a href="#([\w-]+)">', page) == list(SECTIONS)


def test_every_chart_is_there_without_scripts(page: str) -> None:
    assert re.findall(r'<figure id="chart-([\w-]+)">', page) == PRINTED
    assert page.count('<div class="still"><svg') == len(PRINTED)


def test_every_slip_stands_with_its_reason(page: str) -> None:
    text = " ".join(" ".join(Text(page).texts).replace("\u00a0", " ").split())
    slips = [c for c in claims("lecture") if c.paper == "lecture" and c.verdict == DIFFERS]
    assert len(slips) == 33
    for c in slips:
        for words in c.reason.split("`")[::2]:
            assert words.strip() in text, c.id


def test_the_page_counts_what_the_claims_come_to(page: str) -> None:
    both = [c for key in ("lecture", "canziani") for c in claims(key) if c.paper == key]
    n = {v: sum(c.verdict == v for c in both) for v in ("agrees", "differs", "not computable here")}
    lead = (
        f"{len(both)} figures and statements of the lecture and of the paper whose charts it shows: {n['agrees']} agree"
    )
    assert lead in page
    assert f"{n['differs']} differ, {n['not computable here']} only a training" in page


def test_nothing_is_loaded_from_anywhere(page: str) -> None:
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)
    assert policy
    assert policy[1].startswith("default-src &#39;none&#39;; base-uri &#39;none&#39;")
    markup = re.sub(r"<(script|svg)\b.*?</\1>", "", page, flags=re.DOTALL)
    assert not re.search(r'(?:src|href|action|data)="(?!#)', markup)
    assert not re.search(r"url\(|@import|https?:", markup)
    for svg in re.findall(r"<svg\b.*?</svg>", page, flags=re.DOTALL):
        assert set(re.findall(r"https?://[^\"\s]+", svg)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }
        assert "<image" not in svg
    assert len(page.encode()) < 3_000_000


def test_what_is_not_measured_says_so_with_the_command(page: str) -> None:
    found = {s.key: s for s in parts(Path("nowhere"))}
    names = " ".join(LABELS)
    assert [found[key].verdict for key in ("time", "memory", "power")] == [UNMEASURED] * 3
    assert found["time"].command == f"convatlas measure {names} --batch 1,2,4,8,16 --engines torch --archive nowhere"
    assert found["memory"].command == found["power"].command == ""
    assert f"<code>convatlas measure {names} --batch" in page
    assert "200 ms" in found["time"].shows.replace("\u00a0", " ")
    assert not any(found[key].charts for key in ("time", "memory", "power"))


def test_what_was_measured_is_drawn(archive: Archive) -> None:
    folder = archive(*(measurement(n, 10.0 * i) for i, n in enumerate(LABELS, 1)))
    found = {s.key: s for s in parts(folder)}
    assert [c.name for s in found.values() for c in s.charts] == PRINTED + TIMED
    assert [found[key].verdict for key in ("time", "memory", "power")] == [MEASURED, MEASURED, UNMEASURABLE]
    assert found["time"].computed == (
        "Median forward time at batch 1, from 10.0 ms (AlexNet) to 130 ms (Inception-v4)."
    )
    assert found["power"].computed == f"Not measurable here: {NO_COUNTER}."
    assert {s.command for s in found.values()} == {"", found["degradation"].command}


def test_a_measurement_of_some_asks_for_the_others(archive: Archive) -> None:
    found = {s.key: s for s in parts(archive(*(measurement(n, 10) for n in list(LABELS)[:-2])))}
    assert "Not measured yet: Inception-v3, Inception-v4. The command measures them." in found["time"].notes
    assert found["time"].command.startswith("convatlas measure inception_v3 inception_v4 --batch")


def test_the_data_is_inside(page: str) -> None:
    inside = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert inside
    data = json.loads(inside[1])
    assert [part["section"] for part in data] == list(SECTIONS)
    assert sum(len(part["claims"]) for part in data) > 150


def test_the_chinese_page_is_chinese(chinese: str) -> None:
    """No English sentence is left: three words of small letters in a row, names and labels of layers aside."""
    assert '<html lang="zh-CN">' in chinese
    english = re.compile(r"\b[a-z]{2,}(?:[ ,;]+[a-z]{2,}){2,}\b")
    labels = re.compile(r"\b(?:conv|pool|norm|fc)\w*\d\b")
    left = [t for t in Text(chinese).texts if english.search(labels.sub("", t))]
    assert left == []
    assert tuple(re.findall(r'<h2 id="([\w-]+)"', chinese)) == SECTIONS


def test_a_language_that_there_is_not_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        lecture(tmp_path / "page.html", language="eo")
    assert str(caught.value) == "no language named 'eo'; give one of en, zh"
    assert not (tmp_path / "page.html").exists()


def test_the_page_imports_no_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from convatlas.lecture import lecture;"
        f"lecture(Path({str(tmp_path / 'page.html')!r}), archive=Path('none'));"
        "assert not {'torch', 'torchvision'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
