"""The page: complete, offline, deaf to hostile names, and really drawn in a browser."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from convatlas.compare import Comparison, Limits, choose, compare
from convatlas.errors import SaveFailed
from convatlas.record import from_json
from convatlas.report import legible, report
from convatlas.result import Accuracy, DataStamp, Machine, Result, Timing, lines

MACHINE = Machine("Processor X", 2, 8_000_000_000, "Linux x86_64", "cpu", 2)
STAMP = DataStamp("digits", "test", 360, "ab" * 32)
EVIL = '"><img src=x onerror=document.title="pwned"><script>document.title="pwned"<'
EVIL_CLASSES = [
    "</script><script>document.title='pwned'</script>",
    "\u202erotated\u202c",
    "🐈‍⬛",
    "{{7*7}}",
    "שלום",
    "a\0b",
]


def write_run(folder: Path, correct: int, ms: float, words: str = "lenet5", classes: list[str] | None = None) -> Path:
    """A run folder as training, evaluation and measurement leave it; `words` stand in every field of free text."""
    (folder / "checkpoints").mkdir(parents=True)
    line = Result(
        kind="training",
        network=words,
        input=(1, 32, 32),
        classes=2,
        params=61_706 + correct,
        macs=int(416_520 * ms),
        machine=replace(MACHINE, processor=words),
        versions={"torch": "2.14.1"},
        when="2026-11-24T10:00:00+00:00",
        command=f"convatlas train {words}",
        method=f"trained, {words}",
        weights_bytes=247_000,
        recipe=words,
        epochs=2,
        seconds=80,
    )
    test = replace(line, kind="evaluation", data=replace(STAMP, name=words), accuracy=Accuracy(correct, 360, 360, 2))
    timings = tuple(Timing(b, ms * b, 0.9 * ms * b, 1.2 * ms * b, 50) for b in (1, 2, 4))
    (folder / "results.json").write_text(lines([line, test, replace(line, kind="measurement", timings=timings)]))
    config = {
        "spec": {"classes": classes or ["a", "b"]},
        "recipe": {"lr": 0.1, "drops": [8, 11], "where": words, "assumed": ["lr"]},
        "data": {"source": words, "rule": f"every fifth image, {words}"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    counts = {"train_correct": 60, "train_images": 100, "validation": {"correct": 7, "images": 10}}
    (folder / "log.jsonl").write_text("".join(f"{json.dumps({'epoch': e, **counts})}\n" for e in (1, 2)))
    return folder


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    runs = tmp_path_factory.mktemp("runs")
    return compare([write_run(runs / "a", 350, 0.1), write_run(runs / "b", 355, 3.0)])


@pytest.fixture(scope="module")
def page(plain: Comparison, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("page") / "new" / "report.html"
    return report(plain, out, choice=choose(plain, Limits(max_ms=1)))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Path]:
    runs = tmp_path_factory.mktemp("runs")
    names = (EVIL, "\u202eb", "🐈 & co")
    compared = compare([write_run(runs / n, 350 + i, 0.1 + i, EVIL, EVIL_CLASSES) for i, n in enumerate(names)])
    return compared, report(compared, runs / "report.html")


class Page(HTMLParser):
    """What a page is made of: tags, attributes, headings, and the text in scripts and outside."""

    def __init__(self, file: Path):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.text = ""
        self.inside = ""
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("script", "style"):
            self.inside = dict(attrs).get("id") or f"{tag}{len(self.scripts)}"

    def handle_endtag(self, tag: str) -> None:
        if tag in ("script", "style"):
            self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.scripts[self.inside] = self.scripts.get(self.inside, "") + data
        else:
            self.text += data


def test_the_page_says_the_verdict_first_and_has_every_run(plain: Comparison, page: Path) -> None:
    text = " ".join(Page(page).text.split())
    verdict = choose(plain, Limits(max_ms=1)).verdict
    assert "Of 2 measured runs, a is the most accurate within the budget (at most 1 ms at batch 1)" in verdict
    assert text.index(verdict) < text.index("Side by side")
    for part in (
        "Given up: b is 1.4 points more accurate, but 3.00 ms is 2.00 ms (200 %) over 1.00 ms",
        "350 of 360 (97.2 %), 95 % interval 95.0 to 98.5 %",
        "2 in that split, 0 met in training",
        "lenet5, 2 threads, torch 2.14.1",
        "every fifth image, lenet5",
        "convatlas train lenet5",
        "Peak memory and energy of any run.",
        "8, 11",
    ):
        assert part in text


def test_the_data_inside_is_the_comparison_and_the_choice(plain: Comparison, page: Path) -> None:
    scripts = Page(page).scripts
    assert from_json(Comparison, scripts["data-comparison"]) == plain
    assert json.loads(scripts["data-choice"]) == json.loads(choose(plain, Limits(max_ms=1)).as_json())
    assert set(json.loads(scripts["charts"])) == {"accuracy-macs", "time-batch", "training"}


def test_the_page_loads_nothing_and_allows_nothing(page: Path, hostile: tuple[Comparison, Path]) -> None:
    for file in (page, hostile[1]):
        found = Page(file)
        for tag, attrs in found.tags:
            assert (
                not {"src", "srcset", "href", "xlink:href", "action", "data", "poster", "background"} & attrs.keys()
            ), tag
            assert not any(name.startswith("on") for name in attrs), attrs
            assert tag not in ("link", "iframe", "object", "embed", "base", "form", "img", "video", "audio")
        styles = "".join(text for name, text in found.scripts.items() if name.startswith("style"))
        assert "url(" not in styles and "@import" not in styles
        policy = next(a["content"] for t, a in found.tags if t == "meta" and a.get("http-equiv"))
        assert policy is not None and policy.startswith("default-src 'none'; ")
        assert "unsafe-eval" not in policy and not re.search(r"script-src[^;]*unsafe-inline", policy)
        outside = file.read_text()
        for name, text in found.scripts.items():
            if not name.startswith("data-") and name != "charts":
                outside = outside.replace(text, "")
        assert set(re.findall(r"https?://[^\s\"'<]+", outside)) <= {
            "http://www.w3.org/2000/svg",
            "http://www.w3.org/1999/xlink",
        }
        assert file.stat().st_size < 1_500_000


def test_the_page_is_built_for_every_reader(page: Path) -> None:
    tags = Page(page).tags
    assert ("html", {"lang": "en"}) in tags
    levels = [int(t[1]) for t, _ in tags if re.fullmatch(r"h[1-6]", t)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    ids = [a["id"] for _, a in tags if "id" in a]
    assert len(ids) == len(set(ids))
    pictures = [a for t, a in tags if t == "div" and a.get("role") == "img"]
    assert len(pictures) == 3 and all(a["aria-labelledby"] in ids for a in pictures)
    assert sum(t == "table" for t, _ in tags) == 4  # the runs, and one behind each chart
    styles = page.read_text()
    assert "prefers-color-scheme: dark" in styles and "@media print" in styles


def test_hostile_names_are_text(hostile: tuple[Comparison, Path]) -> None:
    compared, file = hostile
    found = Page(file)
    assert [a.get("type") for t, a in found.tags if t == "script"] == ["application/json"] * 3 + [None] * 2
    for name in (
        EVIL,
        EVIL_CLASSES[0],
        "🐈‍⬛",
        "{{7*7}}",
        "שלום",
        "a[U+0000]b",
        "[U+202E]rotated[U+202C]",
        "[U+202E]b",
    ):
        assert name in found.text
    assert "\u202e" not in file.read_text()
    assert from_json(Comparison, found.scripts["data-comparison"]) == compared


def test_runs_on_different_images_are_shown_but_not_ranked(plain: Comparison, tmp_path: Path) -> None:
    other = replace(plain.entries[1], data=replace(STAMP, digest="cd" * 32))
    warning = "accuracies are not comparable, they are of different images: a: x; b: y"
    mixed = replace(plain, entries=(plain.entries[0], other), warnings=(warning,))
    text = " ".join(Page(report(mixed, tmp_path / "report.html")).text.split())
    assert "These runs cannot be ranked: their accuracies are of different images." in text
    assert "Caution: accuracies are not comparable, they are of different images: a: x; b: y." in text
    assert "chosen" not in text


def test_a_run_with_nothing_measured_still_makes_a_page(plain: Comparison, tmp_path: Path) -> None:
    bare = replace(plain.entries[0], accuracy=None, data=None, timings=(), machine=None, curve=(), weights_bytes=0)
    out = report(replace(plain, entries=(bare,)), tmp_path / "report.html")
    assert "No run has been measured for its accuracy." in Page(out).text


def test_a_refused_write_is_one_line(plain: Comparison, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SaveFailed, match=r"cannot write .*file/report\.html"):
        report(plain, tmp_path / "file" / "report.html")


def test_only_marks_that_mislead_are_spelled_out() -> None:
    assert legible(STAMP) == STAMP
    odd = replace(STAMP, name="a\u202eb\x1b[31m\nc é 漢 🐈‍⬛")
    assert legible(odd).name == "a[U+202E]b[U+001B][31m\nc é 漢 🐈‍⬛"


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not found:
        pytest.skip("no Chromium here: that the page draws its charts offline, without an error, is not tested")
    return found


def browse(chromium: str, file: Path, profile: Path) -> tuple[str, str]:
    """The page's document after its scripts ran, and the browser's log, with every outside address unreachable."""
    options = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
        "--disable-component-update --disable-sync --proxy-server=127.0.0.1:9 --enable-logging=stderr "
        "--virtual-time-budget=10000 --window-size=1200,2400 --dump-dom"
    )
    command = [
        chromium,
        *options.split(),
        f"--user-data-dir={profile}",
        f"--log-net-log={profile}/net.json",
        file.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_a_browser_draws_the_charts_offline_and_runs_no_hostile_name(
    chromium: str, hostile: tuple[Comparison, Path], tmp_path: Path
) -> None:
    document, log = browse(chromium, hostile[1], tmp_path)
    assert "CONSOLE" not in log, log
    assert document.count('class="drawn"') == 3
    live = re.findall(r'<div class="live[^"]*".*?</figure>', document, re.DOTALL)
    assert [("mark-symbol" in part, "mark-line" in part) for part in live] == [
        (True, False),
        (True, True),
        (True, True),
    ]
    assert "<title>3 classifiers" in document and "<title>pwned" not in document
    asked = set(re.findall(r'"url":"(https?://[^"]*)"', (tmp_path / "net.json").read_text()))
    of_the_browser = re.compile(r"https?://[\w.-]+\.(google|googleapis|gstatic)\.com/")
    assert not [url for url in asked if not of_the_browser.match(url)]
