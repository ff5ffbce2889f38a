"""Every phrase that is said has a translation, none is left over, and placeholders stay as they are."""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from convatlas import phrases
from convatlas.errors import UsageError
from convatlas.phrases import languages, phrase

PACKAGE = Path(phrases.__file__).parent
LANGUAGES = [language for language in languages() if language != "en"]


def said(folder: str) -> Iterator[str]:
    """Every text that a module of the folder hands to `say` or `phrase`."""
    for path in sorted((PACKAGE / folder).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "say":
                text = node.args[0]
                assert isinstance(text, ast.Constant), f"{path.name}, line {node.lineno}: say takes a text, not a name"
                yield text.value


def part(language: str, name: str) -> dict[str, str]:
    found: dict[str, str] = json.loads((PACKAGE / f"phrases.{language}.json").read_text())[name]
    return found


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_phrase_of_the_charts_has_a_translation_and_none_is_left_over(language: str) -> None:
    assert set(part(language, "charts")) == set(said("charts"))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", ["charts", "page"])
def test_placeholders_stay_as_they_are(language: str, name: str) -> None:
    for english, translated in part(language, name).items():
        assert translated.strip(), english
        holes = [sorted(re.findall(r"{[a-z0-9_:.]*}", text)) for text in (english, translated)]
        assert holes[0] == holes[1], english


def test_the_catalogue_of_one_text_says_the_same_in_every_part() -> None:
    for language in LANGUAGES:
        charts, page = part(language, "charts"), part(language, "page")
        assert {t: (charts[t], page[t]) for t in charts.keys() & page.keys() if charts[t] != page[t]} == {}


def test_english_is_the_text_itself_and_what_has_no_translation_stays_english() -> None:
    assert phrase("Batch size, images", "en") == "Batch size, images"
    assert phrase("Batch size, images", "zh") == "批大小（图像数）"
    assert phrase("no such phrase", "zh") == "no such phrase"


def test_an_unknown_language_is_refused() -> None:
    with pytest.raises(UsageError) as error:
        phrase("run", "../secret")
    assert str(error.value) == "no language named '../secret'; give one of en, zh"
