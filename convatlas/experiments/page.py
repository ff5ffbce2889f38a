"""An experiment's answer as one HTML page that opens offline, with the report's look and its charts."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..charts import Chart
from ..layout import Cell, Column
from ..pages import START, chart_library, embedded, policy, script, write_page
from ..record import to_json
from ..result import Machine, now
from ..version import __version__


@dataclass(frozen=True)
class Part:
    """One section: words, then a chart, a table, facts or commands."""

    title: str
    words: tuple[str, ...] = ()
    chart: Chart | None = None
    columns: Sequence[Column] = ()
    rows: Sequence[Sequence[Cell]] = ()
    facts: Sequence[tuple[str, str]] = ()
    commands: str = ""


@dataclass(frozen=True)
class Page:
    title: str
    answer: Sequence[str]  # the sentences that the reader came for
    tiles: Sequence[tuple[str, str, str]]  # name, figure, what it is of
    parts: Sequence[Part]


def write(page: Page, answer: object, out: Path) -> Path:
    """Writes the page with the whole answer inside as JSON; gives its path. Raises SaveFailed."""
    from markupsafe import Markup

    charts = [part.chart for part in page.parts if part.chart is not None]
    library, draw = chart_library(), script("charts.js") + START
    content = {
        "page": page,
        "policy": policy(library, draw),
        "stills": {c.name: Markup(c.svg()) for c in charts},
        "specs": Markup(embedded(json.dumps({c.name: c.spec for c in charts}))),
        "data": Markup(embedded(to_json(answer))),
        "library": Markup(library),
        "draw": Markup(draw),
        "made": now(),
        "version": __version__,
    }
    return write_page("experiments/page.html", content, out)


def machine_facts(machine: Machine, versions: dict[str, str]) -> list[tuple[str, str]]:
    where = f"{machine.threads} thread{'s' * (machine.threads != 1)}" if machine.device == "cpu" else machine.device
    return [
        ("Machine", f"{machine.processor}, {machine.cores} cores, {where}, {machine.system}"),
        ("Versions", ", ".join(f"{name} {version}" for name, version in versions.items())),
    ]
