"""The comparison as one HTML page that opens offline: verdict, charts, a table behind each, every run, every command.

Nothing is loaded from anywhere: the charts' library and all data are inside. Without scripts the page shows the charts
as still pictures. Every text that came from a user is escaped, and a content security policy allows no script but ours.
"""

import json
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from . import units
from .charts import charts
from .compare import Choice, Comparison, Entry, Limits, choose
from .compare.runs import interval, machine
from .pages import digest, legible, write_page
from .result import now, versions

# Draws each chart in place of its still picture. `ast` interprets Vega's expressions instead of compiling them, which
# the page's policy forbids.
DRAW = """
const specs = JSON.parse(document.getElementById("charts").textContent);
const options = {mode: "vega-lite", renderer: "svg", actions: false, ast: true, tooltip: {theme: "page"}};
for (const [name, spec] of Object.entries(specs)) {
  const figure = document.getElementById("chart-" + name);
  const live = figure.querySelector(".live");
  const columns = Math.max(1, Math.floor(figure.clientWidth / 170));
  Object.assign(spec.config.legend, {columns, labelLimit: (figure.clientWidth - 70) / columns - 35});
  if (figure.clientWidth < 560) spec.layer = spec.layer.filter((layer) => layer.mark.type !== "text");
  window.vegaEmbed(live, spec, options).then(
    () => figure.classList.add("drawn"),
    (error) => { live.remove(); console.error(error); });
}
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((d) => { d.open = true; }));
"""


EXPORTS = "window.vegaEmbed = vegaEmbed;"


def report(comparison: Comparison, out: Path, *, choice: Choice | None = None) -> Path:
    """Writes the page and gives its path. `choice` is what `choose` made of the same comparison; None: without limits.

    Raises SaveFailed where the disk refuses.
    """
    if choice is None and comparison.comparable:
        choice = choose(comparison, Limits())
    return write_page("report.html", _content(comparison, choice), out)


def _content(comparison: Comparison, choice: Choice | None) -> dict[str, Any]:
    from markupsafe import Markup

    shown = legible(comparison)
    decided = legible(choice) if choice else None
    drawn = charts(shown)
    library = chart_library()
    sources = {f"'sha256-{digest(script)}'" for script in (library, DRAW)}
    columns, rows = shown.table()
    return {
        "title": _title(shown),
        "lead": decided.verdict
        if decided
        else "These runs cannot be ranked: their accuracies are of different images.",
        "policy": f"default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; "
        f"style-src 'unsafe-inline'; script-src {' '.join(sorted(sources))}",
        "tiles": _tiles(shown, decided),
        "choice": decided,
        "warnings": shown.warnings,
        "columns": columns,
        "rows": rows,
        "charts": [(c, Markup(c.svg())) for c in drawn],
        "runs": [(e, _facts(e), _recipe(e), _commands(e)) for e in shown.entries],
        "methods": _methods(shown.entries),
        "missing": shown.missing,
        "made": now(),
        "version": versions(["convatlas"]).get("convatlas", ""),
        "data": {
            "comparison": Markup(embedded(comparison.as_json())),
            "choice": Markup(embedded(choice.as_json() if choice else "null")),
            "charts": Markup(embedded(json.dumps({c.name: c.spec for c in drawn}))),
        },
        "library": Markup(library),
        "draw": Markup(DRAW),
    }


@cache
def chart_library() -> str:
    """Vega-Embed, Vega-Lite and Vega in one script of about 0.9 MB."""
    import vl_convert

    return f"\n{vl_convert.javascript_bundle(EXPORTS)}\n"


def embedded(text: str) -> str:
    """JSON that can stand in a <script> element: plain ASCII, and no character that ends it or begins another."""
    ascii_only = json.dumps(json.loads(text))
    return ascii_only.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _title(comparison: Comparison) -> str:
    names = {e.data.name for e in comparison.entries if e.data}
    on = f" on {names.pop()}" if len(names) == 1 else ""
    n = len(comparison.entries)
    return f"{n} classifiers{on}, compared" if n > 1 else f"{comparison.entries[0].name}{on}"


def _tiles(comparison: Comparison, choice: Choice | None) -> list[tuple[str, str, str]]:
    """The pick's (else the nearest run's) main figures: name, figure, what it is of."""
    name = (choice.pick or choice.nearest) if choice else None
    e = next((e for e in comparison.entries if e.name == name), None)
    if e is None or choice is None:
        return []
    tiles = []
    if e.accuracy and e.data:
        tiles.append(("Accuracy", units.percent(e.accuracy.top1), f"{interval(e.accuracy)}, {e.data.split} images"))
    if timing := e.timing(choice.limits.batch):
        tiles.append(("Forward time", units.milliseconds(timing.median_ms), f"batch {timing.batch}, median"))
    if e.weights_bytes:
        tiles.append(("Weights", units.size(e.weights_bytes), f"{units.count(e.params)} parameters"))
    tiles.append(("Operations", units.count(e.macs, "MACs"), "multiply-adds of one image"))
    return tiles


def _facts(e: Entry) -> list[tuple[str, str]]:
    facts = [("Network", f"{e.network}, input {units.shape(e.input)}, {len(e.classes) or '?'} classes")]
    if e.source:
        facts.append(("Data", e.source))
    if e.split_rule:
        facts.append(("Splits", e.split_rule))
    if e.accuracy and e.data:
        of = units.of(e.accuracy.correct, e.accuracy.images)
        facts.append(("Accuracy", f"{of}, 95 % interval {interval(e.accuracy)}"))
        digest = f", digest {e.data.digest[:12]}" if e.data.digest else ""
        facts.append(("Measured on", f"{e.data.name}, {e.data.split} split, {e.data.images:,} images{digest}"))
        facts.append(("Unreadable files", f"{e.accuracy.unreadable:,} in that split, {e.unreadable:,} met in training"))
    facts.append(("Parameters", units.exact(e.params)))
    facts.append(("MACs of one image", units.exact(e.macs)))
    if e.weights_bytes:
        facts.append(("Weights", f"{units.exact(e.weights_bytes)} bytes"))
    if e.seconds:
        facts.append(("Training", f"{e.epochs:.4g} epochs of recipe {e.recipe} in {units.seconds(e.seconds)}"))
    if e.timings:
        facts.append(("Timed on", machine(e)))
    facts.append(("Versions", ", ".join(f"{name} {version}" for name, version in e.sources[0].versions.items())))
    return facts


def _recipe(e: Entry) -> list[tuple[str, str, bool]]:
    """Field, value and whether the paper leaves it open, of the recipe as it was used."""
    assumed = e.recipe_fields.get("assumed") or ()
    fields = ((name, _plain(value)) for name, value in e.recipe_fields.items() if name != "assumed")
    return [(name.replace("_", " "), value, name in assumed) for name, value in fields if value]


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def _commands(e: Entry) -> str:
    return "\n".join(dict.fromkeys(s.command for s in e.sources))


def _methods(entries: Iterable[Entry]) -> list[tuple[str, str]]:
    """What was measured and how, each said once."""
    return sorted({(s.kind.capitalize(), s.method) for e in entries for s in e.sources})
