"""The lecture as one HTML page that opens offline: every table and chart, what it comes to here, and where they differ.

CS231n, lecture 9 (2017), in the order of its notes. What a paper printed stands beside what the catalogue counts; times
and memory are shown only where this machine measured them.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from ..claims import AGREES, DIFFERS, OPEN
from ..pages import START, chart_library, embedded, policy, script, write_page
from ..record import to_json
from ..report.words import saying
from ..result import now
from ..version import __version__
from .comparing import compared
from .measured import LABELS
from .networks import early, googlenet, network_in_network, resnet, vgg
from .places import placed
from .section import Section, checked
from .words import Say, words

OPENED = 12  # figures of a section without a table of its own, up to which they are not folded
ARCHIVE = Path("results")


def lecture(out: Path, *, archive: Path = ARCHIVE, language: str = "en") -> Path:
    """Writes the page and gives its path. `archive` is what `convatlas measure` writes; it may be missing.

    Raises UsageError for a language that there is not or an archive that cannot be read, SaveFailed where the disk
    refuses.
    """
    say = words(language)
    sections = parts(archive, language)
    shown = saying(language)
    return write_page("lecture/page.html", _content(sections, language, say), out, lambda text: say.of(text, shown))


def parts(archive: Path = ARCHIVE, language: str = "en") -> list[Section]:
    """Every section, in the lecture's order."""
    say, found = words(language), placed()
    return [
        *early(found, say),
        *vgg(found, say),
        *googlenet(found, say),
        *resnet(found, say),
        *compared(found, archive, language, say),
        *network_in_network(found, say),
    ]


def _content(sections: list[Section], language: str, say: Say) -> dict[str, Any]:
    from markupsafe import Markup

    scripts = {"library": chart_library(), "draw": script("charts.js"), "start": START}
    drawn = [chart for s in sections for chart in s.charts]
    counts = Counter(c.verdict for s in sections for c in s.claims)
    return {
        "language": {"zh": "zh-CN"}.get(language, language),
        "title": say("The lecture, recomputed"),
        "lead": say(
            "{all} figures and statements of the lecture and of the paper whose charts it shows: {agree} agree with "
            "what is computed here, {differ} differ, {open} only a training or another machine could tell.",
            all=sum(counts.values()),
            agree=counts[AGREES],
            differ=counts[DIFFERS],
            open=counts[OPEN],
        ),
        "policy": policy(*scripts.values()),
        "tiles": _tiles(sections, counts, say),
        "sections": [(s, checked(s.claims, say) if s.claims else None) for s in sections],
        "opened": OPENED,
        "counted": {AGREES: say("{n} agree"), DIFFERS: say("{n} differ"), OPEN: say("{n} not computable here")},
        "stills": {c.name: Markup(c.svg()) for c in drawn},
        "specs": Markup(embedded(json.dumps({c.name: c.spec for c in drawn}))),
        "data": Markup(embedded(to_json([{"section": s.key, "claims": s.claims} for s in sections]))),
        "scripts": {name: Markup(text) for name, text in scripts.items()},
        "written": say("Written by ConvAtlas {version} on {day}.", version=__version__, day=now()[:10]),
        "version": __version__,
    }


def _tiles(sections: list[Section], counts: Counter[str], say: Say) -> list[tuple[str, str, str]]:
    measured = next(s for s in sections if s.key == "time").charts
    names = {row[0] for row in measured[0].rows} if measured else set()
    return [
        (say("Sections"), str(len(sections)), say("in the lecture’s order")),
        (say("Agree"), str(counts[AGREES]), say("within the last printed place")),
        (say("Differ"), str(counts[DIFFERS]), say("each with its reason")),
        (say("Networks measured"), f"{len(names)} / {len(LABELS)}", say("forward time, on this machine")),
    ]
