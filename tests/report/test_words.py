"""Sentences in another language: by their form, with names left as they are."""

import json
import re

import pytest

from convatlas.errors import UsageError
from convatlas.phrases import FOLDER
from convatlas.report.words import HOLE, sayer, saying

KNOWN = {
    "right": "对",
    "{n} of {n2}": "{n2} 中 {n}",
    "{name} wins: {rest!}.": "{name} 胜：{rest!}。",
    "{name}: {rest!}.": "{name}——{rest!}。",
}


def test_forms_are_filled_and_their_rest_is_said_in_turn() -> None:
    say = sayer(KNOWN)
    assert say("right") == "对"
    assert say("3 of 1,000") == "1,000 中 3"
    assert say("right of 3") == "right of 3"  # {n} holds figures only
    assert say("{n} wins: 3 of 4.") == "{n} 胜：4 中 3。"
    assert say("right wins: right.") == "right 胜：对。"  # a name stays, whatever it is
    assert say("a\nb: right.") == "a\nb——对。"
    assert say("") == "" and say("unknown") == "unknown"


def test_english_is_the_text_itself() -> None:
    assert saying("en")("Side by side") == "Side by side"
    with pytest.raises(UsageError, match=re.escape("no language named 'xx'; give one of en, zh")):
        saying("xx")


def test_every_chinese_phrase_keeps_its_holes_and_has_chinese() -> None:
    page = json.loads((FOLDER / "phrases.zh.json").read_text(encoding="utf-8"))["page"]
    for english, chinese in page.items():
        assert set(HOLE.findall(chinese)) <= set(HOLE.findall(english)), english
        assert re.search("[\u3000-\u9fff\uff00-\uffef]", chinese), english
