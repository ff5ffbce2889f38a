"""The page in a browser without a network: drawn, harmless, usable by everybody, and whole without scripts."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from convatlas.compare import Comparison

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WIDTHS = {"desk": 1200, "phone": 375}


@pytest.fixture(scope="module")
def browser(chromium: str) -> "Iterator[Browser]":
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: no page is opened")
    with playwright.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


def until(page: "Page", expression: str, seconds: float = 30) -> None:
    """Waits; playwright's own way needs the eval that the page's policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, expression
        page.wait_for_timeout(50)


@contextmanager
def opened(browser: "Browser", file: Path, width: int = 1200, **options: Any) -> "Iterator[Page]":
    """The page once it is drawn. Fails for a request, a message on the console or an error."""
    context = browser.new_context(viewport={"width": width, "height": 900}, offline=True, **options)
    page = context.new_page()
    told: list[str] = []
    page.on("console", lambda m: told.append(f"{m.type}: {m.text}") if m.type == "error" else None)
    page.on("pageerror", lambda e: told.append(str(e)))
    page.on("request", lambda r: told.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
    page.goto(file.as_uri())
    if options.get("java_script_enabled", True):
        until(page, "document.querySelectorAll('figure.drawn').length === Object.keys(SPECS).length")
    yield page
    context.close()
    assert not told


@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_every_chart_is_drawn_offline_and_nothing_overflows(browser: "Browser", page: Path, width: int) -> None:
    with opened(browser, page, width) as p:
        assert p.locator("figure .live svg").count() == p.locator("figure.drawn").count() >= 5
        assert p.locator("figure .still:visible").count() == 0
        assert p.evaluate("document.documentElement.scrollWidth") <= width
        p.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        assert p.evaluate("document.documentElement.scrollWidth") <= width


def test_no_hostile_name_runs(
    browser: "Browser", hostile: tuple[Comparison, Path], evil: tuple[str, list[str]]
) -> None:
    with opened(browser, hostile[1]) as p:
        assert p.title().startswith("3 classifiers")
        assert p.locator("h3", has_text=evil[0]).count() >= 1
        p.locator(".chip").first.click()  # a name that becomes a signal of every chart
        assert p.locator(".chip").first.get_attribute("aria-pressed") == "true"
        assert p.title().startswith("3 classifiers")
        assert p.locator("th", has_text=evil[1][0]).count() >= 1
        assert p.evaluate("document.images.length") == 0


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (375, "dark")], ids=["desk", "phone in the dark"])
def test_axe_finds_nothing_serious(browser: "Browser", page: Path, width: int, scheme: str) -> None:
    axe = pytest.importorskip("axe_playwright_python.base", reason="axe-playwright-python is not installed")
    with opened(browser, page, width, color_scheme=scheme) as p:
        p.evaluate("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        p.locator(".chip").first.click()
        p.evaluate(axe.AXE_SCRIPT)
        tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
        # What is drawn inside a picture is not read out: the table behind it is.
        pictures = [[".still svg"], [".live svg"]]
        found = p.evaluate("([tags, exclude]) => axe.run({exclude}, {runOnly: tags})", [tags, pictures])
        assert found["passes"]
        bad = [(v["id"], v["nodes"][0]["html"]) for v in found["violations"] if v["impact"] in ("serious", "critical")]
        assert not bad, bad


def signal(p: "Page") -> set[str]:
    return set(p.evaluate("[...VIEWS.values()].map((v) => v.signal('highlight'))"))


def test_a_run_is_lifted_out_everywhere_by_pointer_and_keyboard(browser: "Browser", page: Path) -> None:
    with opened(browser, page) as p:
        assert signal(p) == {""}
        p.locator(".chip[data-run=b]").focus()
        p.keyboard.press("Enter")
        assert signal(p) == {"b"}
        assert p.locator("tr.lit").count() == p.locator("tr[data-run=b]").count() > 3
        assert p.locator("#state").inner_text() == "all 2 shown; b is highlighted"
        p.locator("tr[data-run=a] td").first.click()
        assert signal(p) == {"a"}
        p.keyboard.press("Escape")
        assert signal(p) == {""}


# The run of every row that any chart draws.
DRAWN = """[...VIEWS.values()].flatMap((v) => Object.values(v.getState({data: (n) => /^(source|data)_/.test(n)}).data)
  .flatMap((rows) => Array.isArray(rows) ? rows.map((row) => row.run) : []))"""


def test_the_filter_leaves_runs_out_of_charts_and_tables(browser: "Browser", page: Path) -> None:
    with opened(browser, page) as p:
        assert set(p.evaluate(DRAWN)) >= {"a", "b"}
        p.locator("#filter").fill("no such run")
        until(p, "document.querySelectorAll('.chip:not([hidden])').length === 0")
        p.locator("#filter").fill("")
        until(p, "document.querySelectorAll('.chip:not([hidden])').length === 2")
        p.evaluate("document.querySelector('.chip[data-run=b]').dataset.words = 'other'")
        p.locator("#filter").fill("LENET5")
        until(p, "document.querySelectorAll('article[data-run]:not([hidden])').length === 1")
        until(p, f"{DRAWN}.every((run) => run !== 'b')")
        assert "a" in p.evaluate(DRAWN)
        assert p.locator("tr[data-run=b]:visible").count() == 0
        assert p.locator("#state").inner_text() == "1 of 2 shown"


def test_without_scripts_all_pictures_are_there(browser: "Browser", page: Path) -> None:
    with opened(browser, page, java_script_enabled=False) as p:
        figures = p.locator("figure").count()
        assert p.locator("figure .still svg:visible").count() == figures >= 5
        assert p.locator(".chooser:visible").count() == 0
        assert p.locator(".heat:visible").count() == 1


def test_on_paper_everything_is_unfolded_and_nothing_is_to_press(browser: "Browser", page: Path) -> None:
    for scripts in (True, False):
        with opened(browser, page, java_script_enabled=scripts) as p:
            p.emulate_media(media="print")
            assert p.locator(".chooser:visible, .contents:visible, .skip:visible").count() == 0
            assert p.locator("figure .still svg:visible").count() == p.locator("figure").count()
            assert p.locator("figure .live:visible").count() == 0
            assert p.locator("table:visible").count() == p.locator("table").count()
            assert p.pdf(format="A4").startswith(b"%PDF")


def test_the_skip_link_is_first_and_shows_itself(browser: "Browser", page: Path) -> None:
    with opened(browser, page) as p:
        p.keyboard.press("Tab")
        assert p.evaluate("document.activeElement.className") == "skip"
        assert p.evaluate("document.activeElement.getBoundingClientRect().top") >= 0
        p.keyboard.press("Enter")
        assert p.evaluate("location.hash") == "#main"
