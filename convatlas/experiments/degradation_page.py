"""The degradation experiment's page: errors by epoch, gradients by depth, the table, the paper's figures beside."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import units
from ..charts import COLOURS, ROOM, SHAPES, Chart, finished, ticks, tooltip
from ..layout import Cell, Column
from ..pages import legible
from ..paper import Recipe
from .answers import Degradation, Errors, Norms, Trained
from .page import Page, Part, machine_facts, write

PAGE = "degradation.html"
DASHES = {"plain": [6, 4], "resnet": [1, 0]}
LENGTHS = ("epochs", "iterations", "drops", "warm_up")
SAID = ("where", "dataset", "assumed")  # fields of a recipe that change no training


def degradation_page(found: Degradation, out: Path) -> Path:
    """Writes the page and gives its path. Raises SaveFailed."""
    shown = legible(found)
    return write(_page(shown), found, out)


def _page(found: Degradation) -> Page:
    depths = sorted({t.depth for t in found.trained})
    listed = f"{', '.join(map(str, depths[:-1]))} and {depths[-1]}"
    tiles = [
        (f"{t.name}, training error", units.percent(t.training.share), f"{t.training.wrong:,} of {t.training.images:,}")
        for t in found.trained
    ]
    parts = [
        Part("At the end", (METHOD,), columns=COLUMNS, rows=[_row(t) for t in found.trained]),
        Part("Training error", chart=curves(found.trained, "training")),
    ]
    if all(p.held_out for t in found.trained for p in t.curve):
        parts.append(Part("Validation error", chart=curves(found.trained, "validation")))
    parts += _gradients(found.trained)
    parts += [
        Part("What the paper has", (PAPER,), columns=PRINTED, rows=_printed(found)),
        Part("What was cut, and how it was trained", facts=_facts(found)),
        Part("The command", commands=found.command),
    ]
    return Page(f"Degradation on {found.data}: {listed} layers", found.answer, tiles, parts)


# ---- Tables ----------------------------------------------------------------------------------------------------------

METHOD = (
    "Training errors are of all training images, each once, one centre view, by each run's best checkpoint: the one "
    "with most validation images right. Intervals are Wilson’s at 95 %, from the counts alone; they do not tell how "
    "much another seed would differ."
)
COLUMNS = [
    Column("network"),
    *(Column(name, True) for name in ("parameters", "wrong training images", "interval", "wrong held-out images")),
    *(Column(name, True) for name in ("interval", "last epoch, while learning", "time")),
]
PAPER = (
    "He, Zhang, Ren and Sun (2015) trained on CIFAR-10 for 64,000 iterations. For the plain networks they print curves "
    "(Figure 6) and no figures."
)
PRINTED = [Column("network"), Column("printed"), Column("where"), Column("here")]


def _row(t: Trained) -> list[Cell]:
    last = t.curve[-1].training
    return [
        t.name,
        t.params,
        _of(t.training),
        _interval(t.training),
        f"{_of(t.tested)}, {t.split}",
        _interval(t.tested),
        units.percent(last.share),
        units.seconds(t.seconds),
    ]


def _of(e: Errors) -> str:
    return units.of(e.wrong, e.images)


def _interval(e: Errors) -> str:
    low, high = e.interval
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def _printed(found: Degradation) -> list[list[Cell]]:
    by_name = {t.network: t for t in found.trained}
    rows: list[list[Cell]] = []
    for p in found.printed:
        t = by_name[p.network]
        printed = p.printed if p.metric == "statement" else f"{p.printed} % of CIFAR-10’s test images wrong"
        here = f"{units.percent(t.tested.share)} of {found.data}, {t.split}"
        rows.append([t.name, printed, ", ".join(filter(None, (p.source, p.protocol))), here])
    missing = [t for t in found.trained if t.network not in {p.network for p in found.printed}]
    return rows + [[t.name, "a curve only", "Figure 6", f"{units.percent(t.tested.share)}, {t.split}"] for t in missing]


def _facts(found: Degradation) -> list[tuple[str, str]]:
    sizes = ", ".join(f"{n:,} {name}" for name, n in found.images.items())
    t = found.trained[0]
    return [
        ("Data", f"{found.data}: {sizes} images, resized to the networks’ 32x32"),
        ("Length", f"{_length(t.recipe)} ({t.epochs:.4g} epochs) in place of {_length(found.paper)}"),
        ("Rate drops", f"at {_plain(t.recipe.drops)} in place of {_plain(found.paper.drops)}, the same shares"),
        ("Otherwise", _otherwise(found.paper, t.recipe)),
        ("Seed", f"{found.seed}, of weights, order and augmentation; the same for every network"),
        *machine_facts(found.machine, found.versions),
    ]


def _length(recipe: Recipe) -> str:
    return f"{recipe.iterations:,} iterations" if recipe.iterations else f"{recipe.epochs:g} epochs"


def _otherwise(paper: Recipe, used: Recipe) -> str:
    """What else is not as the paper has it."""
    before, here = dataclasses.asdict(paper), dataclasses.asdict(used)
    changes = [
        f"{name.replace('_', ' ')} {_plain(here[name])} in place of {_plain(before[name])}"
        for name in before
        if before[name] != here[name] and name not in (*LENGTHS, *SAID)
    ]
    return ", ".join(changes) or f"the paper’s recipe ({paper.where}): batch {paper.batch}, rate {paper.lr:g}"


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return " and ".join(map(_plain, value)) or "none"
    return f"{value:,g}" if isinstance(value, float) else "none" if value is None else str(value)


# ---- Gradients -------------------------------------------------------------------------------------------------------

NORMS = [
    Column("network"),
    Column("epoch", True),
    *(Column(name, True) for name in ("first layer", "early third", "late third", "early to late")),
]


def _gradients(trained: Sequence[Trained]) -> list[Part]:
    """Charts of the first and the last epoch and a table; a sentence where no run has norms."""
    known = [t for t in trained if t.norms]
    if not known:
        return [Part("Gradient norms by depth", ("These runs were trained without writing gradient norms.",))]
    words = (
        "The norm of each layer’s gradient, root of the mean square over an epoch’s steps, from the input (layer 1) to "
        "the last layer. Thirds are geometric means over the layers nearest to the input and to the output.",
    )
    rows: list[list[Cell]] = [
        [t.name, n.epoch, f"{n.values[0]:.3g}", f"{n.early():.3g}", f"{n.late():.3g}", _ratio(n)]
        for t in known
        for n in dict.fromkeys((t.norms[0], t.norms[-1]))
    ]
    if all(len(t.norms) == 1 for t in known):
        return [Part("Gradient norms by depth", words, by_depth(known, 0), NORMS, rows)]
    return [
        Part("Gradient norms by depth, first epoch", words, by_depth(known, 0)),
        Part("Gradient norms by depth, last epoch", (), by_depth(known, -1), NORMS, rows),
    ]


def _ratio(n: Norms) -> str:
    return f"{n.early() / n.late():.3g}" if n.late() else "—"


# ---- Charts ----------------------------------------------------------------------------------------------------------

CURVE = {"network": ("Network", ""), "epoch": ("Epoch", ""), "error": ("Error, %", ".2f"), "of": ("Wrong", "")}
DEPTH = {"network": ("Network", ""), "layer": ("Layer", ""), "weights": ("Weights", ""), "norm": ("Norm", ".3r")}


def curves(trained: Sequence[Trained], what: str) -> Chart:
    """Errors by epoch, on training images while the weights change, or on validation images at each epoch's end."""
    import altair as alt

    values: list[dict[str, Any]] = []
    for t in trained:
        for p in t.curve:
            e = p.training if what == "training" else p.held_out
            if e is not None:
                values.append({"network": t.name, "epoch": p.epoch, "error": 100 * e.share, "of": _of(e)})
    last = max(v["epoch"] for v in values)
    step = max(1, round(last / 10))
    ticks = sorted({1, *range(step, last + 1, step)})
    base = alt.Chart(alt.Data(values=values)).encode(
        x=alt.X(
            "epoch:Q", title="Epoch", axis=alt.Axis(format="d", values=ticks), scale=alt.Scale(nice=False, zero=False)
        ),
        y=alt.Y("error:Q", title=f"{what.capitalize()} error, %", scale=alt.Scale(zero=False)),
        tooltip=tooltip(CURVE),
    )
    ends = [max((v for v in values if v["network"] == t.name), key=lambda v: v["epoch"]) for t in trained]
    how = "while the weights were changing" if what == "training" else "at each epoch’s end"
    description = (
        f"Error on the {what} images, {how}; dashed plain, solid residual. At the end: "
        + ", ".join(f"{v['network']} {v['error']:.1f} %" for v in ends)
        + "."
    )
    columns = [Column("network"), Column("epoch", True), Column("wrong", True)]
    rows: list[list[Cell]] = [[v["network"], v["epoch"], v["of"]] for v in values]
    spec = finished(alt.layer(*_lines(base, trained, values, last <= 30)), description)
    return Chart(f"{what}-error", f"{what.capitalize()} error by epoch", description, spec, columns, rows)


def by_depth(trained: Sequence[Trained], which: int) -> Chart:
    """Gradient norms over the layers, logarithmic, in the first epoch (0) or the last (-1)."""
    import altair as alt

    from .degradation import layers

    values: list[dict[str, Any]] = [
        {"network": t.name, "layer": i, "weights": name, "norm": value}
        for t in trained
        for i, (name, value) in enumerate(zip(layers(t.network), t.norms[which].values, strict=True), 1)
        if value > 0
    ]
    deepest = max(t.depth for t in trained)
    low, high = (end(v["norm"] for v in values) for end in (min, max))
    step = 5 if deepest > 20 else 2
    base = alt.Chart(alt.Data(values=values)).encode(
        x=alt.X(
            "layer:Q",
            title="Layer, from the input",
            axis=alt.Axis(format="d", values=[1, *range(step, deepest + 1, step)]),
            scale=alt.Scale(domain=[1, deepest], nice=False),
        ),
        y=alt.Y(
            "norm:Q",
            title="Gradient norm (log scale)",
            scale=alt.Scale(type="log", domain=[low / ROOM, high * ROOM], nice=False),
            axis=alt.Axis(values=ticks(low, high), format="~g"),
        ),
        tooltip=tooltip(DEPTH),
    )
    epochs = ", ".join(sorted({f"epoch {t.norms[which].epoch}" for t in trained}))
    told = ", ".join(f"{t.name} {t.norms[which].early():.2g}" for t in trained)
    how = "dashed plain, solid residual"
    description = f"Gradient norm of each layer’s weights in {epochs}; {how}. Early third of the layers: {told}."
    columns = [Column("network"), Column("layer", True), Column("weights"), Column("norm", True)]
    rows: list[list[Cell]] = [[v["network"], v["layer"], v["weights"], f"{v['norm']:.3g}"] for v in values]
    name = "gradients-first" if which == 0 else "gradients-last"
    spec = finished(alt.layer(*_lines(base, trained, values, False)), description)
    return Chart(name, "Gradient norms by depth", description, spec, columns, rows)


def _lines(base: Any, trained: Sequence[Trained], values: Sequence[dict[str, Any]], marks: bool) -> list[Any]:
    """A line a network: colour by depth, dashed where plain; with a mark for each value, or for the last alone."""
    import altair as alt

    names = [t.name for t in trained]
    depths = sorted({t.depth for t in trained})
    legend = alt.Legend()
    colours = [COLOURS[depths.index(t.depth) % len(COLOURS)] for t in trained]
    colour = alt.Color("network:N", title=None, legend=legend, scale=alt.Scale(range=colours, domain=names))
    shapes = [SHAPES[i % len(SHAPES)] for i in range(len(names))]
    shape = alt.Shape("network:N", title=None, legend=legend, scale=alt.Scale(range=shapes, domain=names))
    # A condition has no legend, where a second channel of the same field would quarrel with the colours'.
    plain = "indexof(datum.network, 'plain') == 0"
    dash = alt.condition(plain, alt.value(DASHES["plain"]), alt.value(DASHES["resnet"]))
    last = [[v for v in values if v["network"] == name][-1] for name in names]
    points = base.mark_point(filled=True, size=60, opacity=1).encode(color=colour, shape=shape)
    if not marks:
        points = points.properties(data=alt.Data(values=last))
    return [base.mark_line(strokeWidth=2).encode(color=colour, strokeDash=dash), points]
