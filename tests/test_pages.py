"""What all pages share: text that is legible, JSON that ends no script, a policy that allows no address."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.pages import digest, embedded, legible, policy, tight


@dataclass(frozen=True)
class Named:
    name: str
    inner: tuple[str, ...] = ()


def test_only_marks_that_mislead_are_spelled_out() -> None:
    plain = Named("plain", ("é 漢 🐈‍⬛",))
    assert legible(plain) == plain
    odd = Named("a\u202eb\x1b[31m\nc é 漢 🐈‍⬛", ("\u2066x",))
    assert legible(odd) == Named("a[U+202E]b[U+001B][31m\nc é 漢 🐈‍⬛", ("[U+2066]x",))


@given(st.text())
def test_json_in_a_script_ends_no_script_and_reads_back(text: str) -> None:
    inside = embedded(json.dumps({"a": text}))
    assert not set("<>&") & set(inside) and inside.isascii()
    assert json.loads(inside) == {"a": text}


def test_the_policy_allows_these_scripts_and_nothing_else() -> None:
    allowed = policy("alert(1)", "draw()")
    assert allowed.startswith("default-src 'none'; ")
    assert f"'sha256-{digest('alert(1)')}'" in allowed and f"'sha256-{digest('draw()')}'" in allowed
    # As `printf 'alert(1)' | openssl dgst -sha256 -binary | base64` has it.
    assert digest("alert(1)") == "bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI="


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("98.3 % of 4 networks", "98.3\u00a0% of 4 networks"),
        ("3.00 ms is 2 s more", "3.00\u00a0ms is 2\u00a0s more"),
        ("417 kMACs, 61.7 k, 248 kB", "417\u00a0kMACs, 61.7\u00a0k, 248\u00a0kB"),
        ("3 sets, 4 Models", "3 sets, 4 Models"),
    ],
)
def test_figures_keep_their_units(text: str, kept: str) -> None:
    assert tight(text) == kept


def test_the_pages_share_one_head() -> None:
    package = Path(__file__).parents[1] / "convatlas"
    for page in ("report/report.html", "experiments/page.html", "diagram.html"):
        text = (package / page).read_text()
        assert '{% include "head.html" %}' in text and "Content-Security-Policy" not in text
