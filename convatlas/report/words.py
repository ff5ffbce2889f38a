"""The page's words in the reader's language: fixed ones by themselves, sentences with names and figures by their form.

The forms stand with the fixed words in part "page" of phrases.LANGUAGE.json. "{n}, {n2}, ..." hold a figure, "{name}"
any text that stays as it is, "{rest!}" a text that is put into the language in turn. What has no form stays English.
"""

import json
import re
from collections.abc import Callable, Mapping
from functools import cache, lru_cache

from ..phrases import ENGLISH, FOLDER, phrase

Say = Callable[[str], str]
HOLE = re.compile(r"\{(\w+)(!?)\}")
FIGURE = r"[\d.,+−\-]+"
KEPT = 20_000  # texts whose answer is kept: a page of 20 runs asks for some thousands, many of them again


def saying(language: str) -> Say:
    """A function from English to the language. Raises UsageError for a language that has no phrases."""
    if language == ENGLISH:
        return str
    phrase("", language)  # which complains about a language that there is not
    return _saying(language)


@cache
def _saying(language: str) -> Say:
    page = json.loads((FOLDER / f"phrases.{language}.json").read_text(encoding="utf-8"))["page"]
    return sayer(page, lambda text: phrase(text, language))


def sayer(known: Mapping[str, str], fixed: Say = str) -> Say:
    """The function for these phrases; `fixed` knows those without a hole."""
    # The form with most fixed text goes first: it says most about what the text is.
    forms = sorted((k for k in known if HOLE.search(k)), key=lambda k: -len(HOLE.sub("", k)))
    read = [(_expression(form), known[form]) for form in forms]

    @lru_cache(maxsize=KEPT)
    def say(text: str) -> str:
        done = known.get(text) or fixed(text)
        if done != text or not text:
            return done
        matches = ((expression.fullmatch(text), translated) for expression, translated in read)
        found, translated = next((pair for pair in matches if pair[0]), (None, text))
        if found is None:
            return text
        parts = found.groupdict()
        return HOLE.sub(lambda hole: say(parts[hole[1]]) if hole[2] else parts[hole[1]], translated)

    return say


def _expression(form: str) -> re.Pattern[str]:
    pieces, end = [], 0
    for hole in HOLE.finditer(form):
        inside = FIGURE if re.fullmatch(r"n\d*", hole[1]) else ".+?"
        pieces += [re.escape(form[end : hole.start()]), f"(?P<{hole[1]}>{inside})"]
        end = hole.end()
    return re.compile("".join((*pieces, re.escape(form[end:]))), re.DOTALL)
