"""The lecture's own charts: the competition's years, where VGG-16's memory is, an Inception module's operations."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

from .. import units
from ..catalogue import table
from ..charts import COLOURS, Chart, finished, tooltip
from ..layout import Cell, Column
from .tables import NAIVE, REDUCED, product
from .words import Say

HUMAN = 5.1
PHONE = 300  # pixels of plot, below which a bar has room for its figure alone
YEARS = (  # the slide's bars: year, whose, layers of the network (0: no network), key of the printed error
    ("2010", "Lin et al.", 0, "ILSVRC 2010 winner, shallow"),
    ("2011", "Sánchez et al.", 0, "ILSVRC 2011 winner, shallow"),
    ("2012", "AlexNet", 8, "ILSVRC 2012 winner, 5 networks"),
    ("2013", "Clarifai", 8, "test, several networks"),
    ("2014", "VGG", 19, "test, the 7 networks of the competition"),
    ("2014", "GoogLeNet", 22, "ILSVRC 2014 winner, 7 networks"),
    ("2015", "ResNet", 152, "test, 6 networks, two of 152 layers"),
)
ERROR_FIELDS = {"whose": ("", ""), "error": ("%", ".2f"), "depth": ("", "")}


def winners(errors: Mapping[str, float], say: Say) -> Chart:
    """Top-5 errors of the competition by year, with the layers of each network, and a human's as a rule."""
    import altair as alt

    values: list[dict[str, Any]] = [
        {
            "whose": f"{year} {whose}",
            "error": errors[protocol],
            "depth": say("{n} layers", n=depth) if depth else say("no network"),
            "label": f"{errors[protocol]:g} · {say('{n} layers', n=depth) if depth else say('no network')}",
        }
        for year, whose, depth, protocol in YEARS
    ]
    wide, narrow = (alt.expr(f"width < {PHONE} ? {a} : {b}") for a, b in ((0, 1), (1, 0)))
    top = 1.35 * max(errors.values())
    base = alt.Chart(alt.Data(values=values)).encode(
        y=alt.Y("whose:N", title=None, sort=None, axis=alt.Axis(labelLimit=220, minExtent=118)),
        x=alt.X("error:Q", title=say("Top-5 error, %"), scale=alt.Scale(domain=[0, top], nice=False)),
        tooltip=tooltip(ERROR_FIELDS),
    )
    human = alt.Chart(alt.Data(values=[{"x": HUMAN, "label": say("a human, about {n} %", n=HUMAN)}])).encode(x="x:Q")
    layers = [
        base.mark_bar(height={"band": 0.66}, color=COLOURS[0], cornerRadiusEnd=3),
        base.mark_text(align="left", dx=6, color="currentColor", fontSize=12, opacity=wide).encode(text="label:N"),
        base.mark_text(align="left", dx=6, color="currentColor", fontSize=12, opacity=narrow).encode(text="error:Q"),
        human.mark_rule(strokeDash=[5, 4], strokeWidth=1.5, color=COLOURS[1]),
        human.mark_text(align="left", dx=6, dy=-6, color="currentColor", fontSize=12).encode(
            y=alt.value(0), text="label:N"
        ),
    ]
    description = say(
        "Bar chart: the top-5 error falls from {first} % in 2010 to {last} % in 2015, while the networks grow from "
        "8 to 152 layers.",
        first=f"{values[0]['error']:g}",
        last=f"{values[-1]['error']:g}",
    )
    columns = [Column("year, whose"), Column("top-5 error, %", True), Column("layers", True)]
    rows: list[list[Cell]] = [
        [v["whose"], f"{v['error']:g}", depth or None] for v, (_, _, depth, _) in zip(values, YEARS, strict=True)
    ]
    return Chart("winners", say("Winners by year"), description, _spec(layers, description), columns, rows)


def memory_and_parameters(say: Say) -> Chart:
    """The share that VGG-16's input and each of its layers have of the numbers kept and of the parameters."""
    import altair as alt

    account = table("vgg16")
    image = prod(account.input[0])
    layers = [(say("input"), image, 0), *((r.path, r.activations, r.params) for r in account.stages().rows)]
    kept, weights = image + account.totals.activations, account.totals.params
    kinds = (say("numbers kept"), say("parameters"))
    values = [
        {"layer": layer, "kind": kind, "share": 100 * n / total, "count": units.count(n)}
        for layer, *counts in layers
        for kind, n, total in zip(kinds, counts, (kept, weights), strict=True)
    ]
    names = list(kinds)
    legend = alt.Legend(orient="top")
    bars = (
        alt.Chart(alt.Data(values=values))
        .mark_bar()
        .encode(
            x=alt.X("layer:N", title=None, sort=None, axis=alt.Axis(labelAngle=-60)),
            xOffset=alt.XOffset("kind:N", sort=names),
            y=alt.Y("share:Q", title=say("Share of the network, %")),
            color=alt.Color(
                "kind:N", title=None, legend=legend, scale=alt.Scale(domain=names, range=list(COLOURS[:2]))
            ),
            tooltip=tooltip({"layer": ("", ""), "kind": ("", ""), "count": ("", ""), "share": ("%", ".1f")}),
        )
    )
    description = say(
        "Bar chart of VGG-16’s layers: most of the numbers that a forward pass keeps are in the first convolutions, "
        "most of the parameters in fc6."
    )
    columns = [Column("layer"), *(Column(n, True) for n in ("share of the numbers kept", "share of the parameters"))]
    rows: list[list[Cell]] = [[layer, units.percent(n / kept), units.percent(p / weights)] for layer, n, p in layers]
    title = say("Where memory and parameters are")
    return Chart("vgg-memory", title, description, _spec([bars], description), columns, rows)


def module_operations(say: Say) -> Chart:
    """The MACs of the naive and of the reduced module by convolution, and the sum that the lecture gives."""
    import altair as alt

    naive, reduced, sum_ = say("naive module"), say("reduced module"), say("reduced, as the lecture sums it")
    listed = [(say(label), product(written)) for *_, label, written in REDUCED]
    modules = {
        naive: [(say(label), product(written)) for *_, label, written in NAIVE],
        reduced: listed,
        sum_: [*listed, (say("3x3 conv, 192, once more"), listed[3][1])],
    }
    values: list[dict[str, Any]] = [
        {"module": name, "term": label, "macs": n, "part": i}
        for name, terms in modules.items()
        for i, (label, n) in enumerate(terms)
    ]
    names = list(dict.fromkeys(v["term"] for v in values))
    shades = [COLOURS[i % len(COLOURS)] for i in range(len(names))]
    bars = (
        alt.Chart(alt.Data(values=values))
        .mark_bar(height={"band": 0.6}, stroke="white", strokeWidth=0.5)
        .encode(
            y=alt.Y("module:N", title=None, sort=None, axis=alt.Axis(labelLimit=170)),
            x=alt.X("macs:Q", title=say("Multiply-adds, MACs"), axis=alt.Axis(format="~s"), stack="zero"),
            order=alt.Order("part:Q"),
            color=alt.Color(
                "term:N",
                title=None,
                scale=alt.Scale(domain=names, range=shades),
                legend=alt.Legend(orient="top", labelLimit=220),
            ),
            tooltip=tooltip({"module": ("", ""), "term": ("", ""), "macs": ("MACs", ",")}),
        )
        .properties(height=220)
    )
    totals = {m: sum(v["macs"] for v in values if v["module"] == m) for m in (naive, reduced, sum_)}
    description = say(
        "Stacked bars of the modules’ multiply-adds: {naive} without reduction, {reduced} with it, and {sum} as the "
        "lecture sums them, where the 3x3 convolution is counted twice.",
        naive=units.exact(totals[naive]),
        reduced=units.exact(totals[reduced]),
        sum=units.exact(totals[sum_]),
    )
    columns = [Column("module"), Column("convolution"), Column("MACs", True)]
    rows: list[list[Cell]] = [[v["module"], v["term"], v["macs"]] for v in values]
    spec = _spec([bars], description)
    return Chart("inception-operations", say("Operations of the two modules"), description, spec, columns, rows)


def _spec(layers: Sequence[Any], description: str) -> dict[str, Any]:
    import altair as alt

    height = layers[0].height if len(layers) == 1 else alt.Undefined
    chart = alt.layer(*layers)
    if height is not alt.Undefined:
        chart = chart.properties(height=height)
    return finished(chart, description)
