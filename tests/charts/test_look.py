"""The look: colours that all eyes can tell apart, names that can be seen, axes that end where they should."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.charts import COLOURS, shown_name, ticks
from convatlas.charts.look import Look, span
from convatlas.compare import Comparison

from .conftest import BUILT, MIXED, PRINTED, RUNS, SMALL


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("page", ["#ffffff", "#111418"])
def test_marks_stand_out_from_light_and_dark_pages(colour: str, page: str) -> None:
    light, dark = sorted((luminance(colour), luminance(page)), reverse=True)
    assert (light + 0.05) / (dark + 0.05) >= 3  # WCAG 2.2, success criterion 1.4.11


def luminance(colour: str) -> float:
    """Relative luminance as WCAG 2.2 defines it."""
    shares = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares]
    return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_many_runs_have_their_own_pair_of_colour_and_shape() -> None:
    entries = tuple(replace(SMALL, name=str(i), network=str(i)) for i in range(56))
    styles = Look(Comparison(entries, (), ())).styles
    assert len({(s.colour, s.shape) for s in styles.values()}) == 56


def test_published_networks_are_grey_and_hollow_beside_runs_unless_a_run_has_the_same_network() -> None:
    own = replace(PRINTED, name="own", network=SMALL.network)
    styles = Look(replace(MIXED, entries=(*RUNS.entries, PRINTED, own))).styles
    assert styles["paper"].colour == "#777777" and not styles["paper"].listed
    assert styles["own"].colour == styles["small"].colour and styles["own"].shape == styles["small"].shape
    assert styles["own"].fill == "transparent" != styles["small"].fill
    assert styles["own"].dash != styles["small"].dash
    alone = Look(Comparison((PRINTED, BUILT), (), ())).styles
    assert [s.colour for s in alone.values()] == list(COLOURS[:2]) and all(s.listed for s in alone.values())


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("resnet18", "resnet18"),
        ("", "[]"),
        ("  ", "[U+0020][U+0020]"),
        ("\u200b", "[U+200B]"),
        ("a\nb", "a[U+000A]b"),
        ("a\u202eb", "a[U+202E]b"),
        ("\x00x", "[U+0000]x"),
        ("שלום 🦊 <b>", "שלום 🦊 <b>"),
        ("a fox with a long tail 🦊", "a fox with a long tail [U+1F98A]"),
    ],
)
def test_names_can_be_seen(name: str, shown: str) -> None:
    assert shown_name(name) == shown


def test_names_that_would_look_alike_are_kept_apart() -> None:
    entries = tuple(replace(SMALL, name=n) for n in ("a\x00", "a[U+0000]"))
    assert [s.name for s in Look(Comparison(entries, (), ())).styles.values()] == ["a[U+0000]", "a[U+0000] (2)"]


@given(st.floats(1e-6, 1e9), st.floats(10, 1e8))
def test_ticks_are_inside_rising_and_round(low: float, ratio: float) -> None:
    found = ticks(low, low * ratio)
    assert found and all(low <= t <= low * ratio for t in found)
    assert all(a < b for a, b in pairwise(found))
    assert all(f"{t:.0e}"[0] in "125" and f"{t:.3e}"[1:5] == ".000" for t in found)


@given(st.lists(st.floats(1e-3, 1e9), min_size=1, max_size=9))
def test_every_value_stands_inside_its_axis_in_order(values: list[float]) -> None:
    ends = span(values)
    shares = [ends.share(v) for v in sorted(values)]
    assert all(0 < s < 1 for s in shares) and shares == sorted(shares)
    assert ends.log == (max(values) / min(values) >= 10)
