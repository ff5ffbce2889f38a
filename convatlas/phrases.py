"""Sentences in other languages, looked up by their English text. English is the text itself.

A language is a file beside this one, phrases.LANGUAGE.json: an object of parts (the charts', the page's), each an
object from English to that language. Placeholders like {name} stay as they are; fill them after the look-up.
"""

import json
from functools import cache
from pathlib import Path

from .errors import UsageError

FOLDER = Path(__file__).parent
ENGLISH = "en"


def phrase(text: str, language: str) -> str:
    """The phrase in that language; the English one where it has no translation. Raises UsageError for a language."""
    return text if language == ENGLISH else _catalogue(language).get(text, text)


def languages() -> tuple[str, ...]:
    return (ENGLISH, *sorted(p.name.split(".")[1] for p in FOLDER.glob("phrases.*.json")))


@cache
def _catalogue(language: str) -> dict[str, str]:
    known = languages()
    if language not in known:
        raise UsageError(f"no language named {language!r}; give one of {', '.join(known)}")
    parts: dict[str, dict[str, str]] = json.loads((FOLDER / f"phrases.{language}.json").read_text(encoding="utf-8"))
    return {english: translated for part in parts.values() for english, translated in part.items()}
