"""The comparison as one HTML page: verdict, charts, tables, every run, every network, every command.

Nothing is loaded from anywhere: the charts' library, pictures and all data are inside. Without scripts the page shows
the charts as still pictures. Every text that came from a user is escaped, and a content security policy allows no
script but ours.
"""

import json
from pathlib import Path
from typing import Any

from .. import charts as drawing
from .. import units
from ..compare import Choice, Comparison, Entry, Limits, choose
from ..compare.difference import Difference, class_table, difference_table
from ..compare.entries import images_clash, interval
from ..pages import chart_library, embedded, legible, policy, script, write_page
from ..result import command, now
from ..version import __version__
from .networks import COLUMNS as LAYERS
from .networks import known
from .pictures import Album
from .runs import MARKS, Told, environment, methods, told
from .words import Say, saying


def report(
    comparison: Comparison,
    out: Path,
    *,
    choice: Choice | None = None,
    language: str = "en",
    charts: Path | None = None,
    pictures: bool = True,
) -> Path:
    """Writes the page and gives its path.

    `choice` is what `choose` made of the same comparison; None: without limits. `language` is "en" or "zh". `charts`
    names a folder for each chart as PNG, SVG and PDF. Without `pictures` the worst mistakes are only named; with them
    the page holds up to 12 small pictures a run, from the data where it still is there. Raises UsageError for another
    language and SaveFailed where the disk refuses.
    """
    say = saying(language)
    if choice is None and comparison.comparable:
        choice = choose(comparison, Limits())
    drawn = drawing.charts(legible(comparison), language)
    album = Album(pictures)
    runs = [told(e, album) for e in comparison.entries]
    page = write_page("report/report.html", _content(comparison, choice, drawn, runs, language), out, say)
    if charts is not None:
        for chart in drawn:
            chart.write(charts)
    return page


def _content(
    comparison: Comparison, choice: Choice | None, drawn: list[drawing.Chart], runs: list[Told], language: str
) -> dict[str, Any]:
    from markupsafe import Markup

    shown = legible(comparison)
    decided = legible(choice) if choice else None
    scripts = {"library": chart_library(), "draw": script("charts.js"), "start": script("report/report.js")}
    say = saying(language)
    columns, rows = shown.table()
    return {
        "language": {"zh": "zh-CN"}.get(language, language),
        "title": _title(shown, say),
        "lead": decided.verdict if decided else UNRANKED if images_clash(shown.entries) else NO_RUN,
        "policy": policy(*scripts.values()),
        "tiles": _tiles(shown, decided),
        "choice": decided,
        "warnings": shown.warnings,
        "marks": _marks(shown.entries),
        "columns": columns,
        "rows": rows,
        "engines": shown.engine_table() if any(len(e.measured) > 1 for e in shown.entries) else None,
        "differences": _differences(shown.differences),
        "charts": [(c, Markup(c.svg())) for c in drawn],
        "runs": runs,
        "first": _first(shown, decided),
        "networks": known(shown.entries),
        "layer_columns": LAYERS,
        "methods": methods(shown.entries),
        "environment": environment(shown.entries),
        "commands": _commands(runs),
        "missing": shown.missing,
        "made": now(),
        "version": __version__,
        "data": {
            "data-comparison": Markup(embedded(comparison.as_json())),
            "data-choice": Markup(embedded(choice.as_json() if choice else "null")),
            "charts": Markup(embedded(json.dumps({c.name: c.spec for c in drawn}))),
        },
        "scripts": [Markup(s) for s in scripts.values()],
        "words": Markup(embedded(json.dumps({k: say(v) for k, v in WORDS.items()}))),
    }


UNRANKED = "These runs cannot be ranked: their accuracies are of different images."
NO_RUN = "Figures side by side. There is no run among them to choose."
# What report.js writes: the English text, translated when the page is made.
WORDS = {"all": "all {n} shown", "some": "{n} of {n2} shown", "lit": "{name} is highlighted"}


def _title(comparison: Comparison, say: Say) -> str:
    """How many classifiers were judged on which data; without one such set, how many entries there are."""
    judged = [e for e in comparison.entries if e.data]
    names = {e.data.name for e in judged if e.data}
    if len(names) != 1:
        n = len(comparison.entries)
        return say(f"{n} classifiers, compared") if n > 1 else comparison.entries[0].name
    data = names.pop()
    return say(f"{len(judged)} classifiers on {data}, compared") if len(judged) > 1 else f"{judged[0].name}, {data}"


def _first(comparison: Comparison, choice: Choice | None) -> str:
    """The run whose answers the page shows unfolded: the pick, else the nearest, else the first."""
    name = (choice.pick or choice.nearest) if choice else None
    return name or comparison.entries[0].name


def _marks(entries: tuple[Entry, ...]) -> list[tuple[str, str, int]]:
    """Each kind of entry with its words and number, where there are several kinds."""
    counts = {mark: sum(e.mark == mark for e in entries) for mark in MARKS}
    found = [(mark, MARKS[mark], n) for mark, n in counts.items() if n]
    return found if len(found) > 1 else []


def _differences(found: tuple[Difference, ...]) -> dict[str, Any] | None:
    """The best run against each other, in words and as a table; None where nothing can be paired."""
    if not found:
        return None
    columns, rows = difference_table(found)
    return {
        "best": found[0].a,
        "images": found[0].images,
        "each": [(d, d.sentence(), class_table(sorted(d.classes, key=lambda c: c.p), d.a, d.b)) for d in found],
        "columns": columns,
        "rows": rows,
    }


def _tiles(comparison: Comparison, choice: Choice | None) -> list[tuple[str, str, str]]:
    """The pick's (else the nearest run's) main figures: name, figure, what it is of."""
    name = (choice.pick or choice.nearest) if choice else None
    e = next((e for e in comparison.entries if e.name == name), None)
    if e is None or choice is None:
        return []
    tiles = []
    if e.accuracy and e.data:
        tiles.append(("Accuracy", units.percent(e.accuracy.top1), f"{interval(e.accuracy)}, {e.data.split} images"))
    c = next(c for c in choice.candidates if c.name == name)
    batch = choice.limits.batch
    if c.ms is not None:
        tiles.append(("Forward time", units.milliseconds(c.ms), f"batch {batch}, median, {c.engine} {c.precision}"))
    if c.memory_mb is not None:
        tiles.append(("Peak memory", units.size(c.memory_mb * 1e6), f"batch {batch}, whole process"))
    if c.joules is not None:
        tiles.append(("Energy", f"{c.joules:.3g} J", f"batch {batch}, above idle"))
    if e.weights_bytes:
        tiles.append(("Weights", units.size(e.weights_bytes), f"{units.count(e.params)} parameters"))
    tiles.append(("Operations", units.count(e.macs, "MACs"), "multiply-adds of one image"))
    return tiles


def _commands(runs: list[Told]) -> str:
    """All that made the figures, in order, and the page's own command where the command line made it."""
    own = command()
    lines = [line for run in runs for line in run.commands.splitlines()]
    return "\n".join(dict.fromkeys([*lines, *([own] if own.startswith("convatlas ") else [])]))
