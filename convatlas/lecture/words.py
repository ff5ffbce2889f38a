"""The page's language: a sentence is looked up by its English text, and English is the text itself."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..phrases import phrase

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Say:
    """Puts English into one language; what has no translation stays English."""

    language: str

    def __call__(self, text: str, **values: object) -> str:
        """The sentence with its {places} filled."""
        found = _own(self.language).get(text) or phrase(text, self.language)
        return found.format(**values) if values else found

    def of(self, text: str, others: Callable[[str], str]) -> str:
        """A text that a table or another part of the house brings."""
        return _own(self.language).get(text) or others(text)


def words(language: str) -> Say:
    """Raises UsageError for a language that ConvAtlas does not have."""
    phrase("", language)
    return Say(language)


@cache
def _own(language: str) -> dict[str, str]:
    file = HERE / f"{language}.json"
    found: dict[str, str] = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return found
