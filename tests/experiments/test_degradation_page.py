"""The page: the answer first, both errors, gradients, the paper's figures; offline, and deaf to hostile names."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from convatlas.experiments.answers import Degradation
from convatlas.experiments.degradation_page import degradation_page
from convatlas.record import from_json

from .made import found

EVIL = '"><img src=x onerror=document.title="pwned"><script>document.title="pwned"</script>'


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = found(plain=(980, 1230), residual=(880, 800))
    return degradation_page(made, tmp_path_factory.mktemp("page") / "degradation.html")


def words(file: Path) -> str:
    """What a reader sees, with scripts, styles and marks left out."""
    bare = re.sub(r"<(script|style)\b.*?</\1>|<svg.*?</svg>", " ", file.read_text(), flags=re.DOTALL)
    plain = re.sub(r"<[^>]+>", " ", bare).replace("\u00a0", " ").replace("\u2011", "-")
    return " ".join(plain.split())


def test_the_page_answers_first_and_says_what_was_cut(page: Path) -> None:
    text = words(page)
    assert text.index("Plain-56 errs more than plain-20 on the very images") < text.index("At the end")
    for part in (
        "1,230 of 10,000 (12.3 %)",
        "11.7 to 13.0 %",  # Wilson's interval of that
        "8.75 % of CIFAR-10’s test images wrong",  # Table 6
        "6.97 % of CIFAR-10’s test images wrong",
        "a plain network of 56 layers has larger training and test errors than one of 20",
        "a curve only",
        "2 epochs (2 epochs) in place of 64,000 iterations",
        "at 1 and 1.5 in place of 32,000 and 48,000, the same shares",
        "convatlas experiment degradation fashion --out runs",
        "Processor X, 2 cores, 2 threads",
    ):
        assert part in text, part


def test_the_data_inside_is_the_answer(page: Path) -> None:
    inside = re.search(r'id="data">(.*?)</script>', page.read_text())
    assert inside and from_json(Degradation, inside[1]) == found(plain=(980, 1230), residual=(880, 800))
    specs = re.search(r'id="charts">(.*?)</script>', page.read_text())
    assert specs
    names = ["training-error", "validation-error", "gradients-first", "gradients-last"]
    charts = json.loads(specs[1])
    assert list(charts) == names
    drawn = {v["network"]: v["error"] for v in charts["training-error"]["data"]["values"] if v["epoch"] == 2}
    assert drawn["plain-56"] == pytest.approx(100 * (1230 * 3 // 2) / 10_000)


def test_without_norms_the_page_says_so(tmp_path: Path) -> None:
    made = found(plain=(980, 1230), residual=(880, 800), norms=False)
    text = words(degradation_page(made, tmp_path / "page.html"))
    assert "These runs were trained without writing gradient norms." in text


def test_a_hostile_name_is_text_and_nothing_is_asked_for(page: Path, tmp_path: Path) -> None:
    made = found(plain=(980, 1230), residual=(880, 800), data=EVIL)
    bad = degradation_page(made, tmp_path / "page.html").read_text()
    library = max(re.findall(r"<script>.*?</script>", bad, flags=re.DOTALL), key=len)
    assert "<img" not in bad.replace(library, "") and bad.count("</script>") == 4
    for tag in re.findall(r"<[a-z][^>]*>", re.sub(r"<script\b.*?</script>", "", page.read_text(), flags=re.DOTALL)):
        assert not re.search(r"\s(src|href=\"[^#]|srcset|action|on\w+)", tag), tag
    assert "default-src &#39;none&#39;; " in bad


@pytest.mark.slow
def test_a_browser_draws_every_chart(page: Path, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        pytest.skip("no Chromium here: that the page draws its charts is not tested")
    options = "--headless --no-sandbox --disable-gpu --proxy-server=127.0.0.1:9 --enable-logging=stderr --dump-dom"
    command = [chromium, *options.split(), "--virtual-time-budget=10000", f"--user-data-dir={tmp_path}", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert "CONSOLE" not in done.stderr, done.stderr
    assert done.stdout.count('class="drawn"') == 4
