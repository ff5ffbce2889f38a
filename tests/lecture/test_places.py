"""Every figure of the lecture has its place on the page, and one only."""

from collections import Counter

from convatlas.claims import claims
from convatlas.lecture.page import parts
from convatlas.lecture.places import placed


def test_every_figure_of_the_lecture_and_of_its_charts_stands_once() -> None:
    of_both = {c.id: c for key in ("lecture", "canziani") for c in claims(key) if c.paper == key}
    seen = Counter(c.id for group in placed().values() for c in group)
    assert set(seen) == set(of_both)
    assert set(seen.values()) == {1}
    assert len(seen) > 150


def test_every_place_is_a_section_of_the_page() -> None:
    sections = {s.key: s for s in parts()}
    assert set(placed()) <= set(sections)
    assert all(sections[key].claims == group for key, group in placed().items())


def test_figures_stand_where_the_lecture_has_them() -> None:
    found = placed()
    assert {c.network for c in found["field"]} == {"three_3x3"}
    assert [c.printed for c in found["time"]] == ["200"]
    assert [c.printed for c in found["power"]] == ["11.8"]
    assert "3.58e8" in {c.printed for c in found["inception-reduced"]}
    assert {c.printed for c in found["winners"]} == {"28.2", "25.8", "16.4", "6.7", "5.1"}
    assert len([c for c in found["vgg-memory"] if c.metric == "activations"]) == 21
