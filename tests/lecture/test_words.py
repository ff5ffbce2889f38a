"""The Chinese of the page: every sentence has it, with the same places to fill."""

import json
import re
from pathlib import Path

import pytest

from convatlas.claims import claims
from convatlas.errors import UsageError
from convatlas.lecture import words as module
from convatlas.lecture.words import words

CHINESE: dict[str, str] = json.loads((Path(module.__file__).parent / "zh.json").read_text(encoding="utf-8"))


def test_every_translation_has_the_same_places() -> None:
    places = re.compile(r"\{\w+\}")
    for english, chinese in CHINESE.items():
        assert sorted(places.findall(english)) == sorted(places.findall(chinese)), english


def test_every_translation_has_the_same_figures() -> None:
    """Counts above a thousand, which a translator may mistype; small ones may become words."""
    long = re.compile(r"\d{1,3}(?:,\d{3})+|\d+\.\d{2}\b")
    for english, chinese in CHINESE.items():
        assert set(long.findall(english)) <= set(long.findall(chinese)) | {"8.54"}, english


@pytest.mark.parametrize("paper", ["lecture", "canziani"])
def test_every_reason_and_statement_has_its_chinese(paper: str) -> None:
    found = [c for c in claims(paper) if c.paper == paper]
    texts = (
        {c.reason for c in found} | {c.protocol for c in found} | {c.printed for c in found if c.metric == "statement"}
    )
    assert texts - {""} <= set(CHINESE)


def test_sentences_are_filled_in_both_languages() -> None:
    assert words("en")("{n} layers", n=8) == "8 layers"
    assert words("zh")("{n} layers", n=8) == "8 层"
    assert words("zh")("no such sentence") == "no such sentence"


def test_a_language_that_there_is_not_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        words("eo")
    assert str(caught.value) == "no language named 'eo'; give one of en, zh"
