"""Every figure that a paper or the lecture printed, checked against the generated tables.

The answers are generated too, since reading a hundred tables takes longer than a command should.
"""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from math import prod

from . import units
from .catalogue import FOLDER, Catalogue, catalogue
from .errors import UnknownName
from .layout import Cell, Column, markdown, text
from .paper import Published
from .record import from_json
from .table import Row, Table

AGREES, DIFFERS, OPEN, UNEXPLAINED = "agrees", "differs", "not computable here", "unexplained"


@dataclass(frozen=True)
class Claim:
    """A printed figure beside ours.

    Verdicts: agrees, within half a unit of the last printed place; differs, for the reason given; not computable here,
    such as an accuracy, with its protocol; unexplained, which the tests refuse. `id` is network, layer, metric and
    source: "lenet5.c3.params.section-ii-b"; `paper` is the key of the file that has the figure.
    """

    id: str
    paper: str
    network: str
    metric: str
    source: str
    protocol: str
    printed: str
    computed: int | float | str | None
    verdict: str
    reason: str


def claims(paper: str | None = None) -> list[Claim]:
    """All printed figures, or those that one paper (or the lecture) printed and those about its networks.

    Raises UnknownName.
    """
    known = catalogue()
    if paper is not None and paper not in known.papers:
        raise UnknownName("paper", paper, known.papers)
    own = {e.name for e in known.networks.values() if e.paper == paper}
    return [c for c in _claims() if paper is None or c.paper == paper or c.network in own]


@cache
def _claims() -> tuple[Claim, ...]:
    return from_json(tuple[Claim, ...], (FOLDER / "claims.json").read_bytes())


def check(known: Catalogue, table: Callable[[str], Table]) -> list[Claim]:
    """Every printed figure of a catalogue against its networks' tables.

    An id that an earlier claim has gets a number behind it, so that an id names one figure.
    """
    seen: Counter[str] = Counter()
    out = []
    for key, printed in known.published.items():
        for p in printed:
            claim = _claim(key, p, _compute(p, known, table))
            seen[claim.id] += 1
            again = seen[claim.id]
            out.append(replace(claim, id=f"{claim.id}-{again}") if again > 1 else claim)
    return out


def _claim(paper: str, p: Published, computed: float | str | None) -> Claim:
    if computed is None:
        supported = p.metric == "statement" and not p.differs
        verdict = DIFFERS if p.differs else AGREES if supported else OPEN
    elif _agrees(p, computed):
        verdict = AGREES
    else:
        verdict = DIFFERS if p.reason else UNEXPLAINED
    where = ".".join(part for part in (p.network or "others", p.layer, p.metric) if part)
    key = f"{where}{'-by-' * bool(p.versus)}{p.versus}.{re.sub(r'[^a-z0-9]+', '-', p.source.lower()).strip('-')}"
    return Claim(key, paper, p.network, p.metric, p.source, p.protocol, p.printed, computed, verdict, p.reason)


def _agrees(p: Published, computed: float | str) -> bool:
    if isinstance(computed, str):
        return computed == p.printed
    return abs(computed - p.value) <= p.half * (1 + 1e-9)


# ---- What can be computed -------------------------------------------------------------------------------------------


def _weights(row: Row) -> int:
    """Weights of a convolution or linear layer: one multiply-add each at every place of the output."""
    places = row.output[0] * prod(row.output[2:])
    return row.macs // places if row.params else 0


def _inputs(found: Table) -> int:
    return sum(prod(shape) for shape in found.input)


def _values(found: Table) -> int:
    """What the lecture's memory column counts: the input and every layer's output, ReLU in place."""
    return _inputs(found) + sum(r.activations for r in found.rows)


def _output(found: Table) -> str:
    """Height, width and channels of the last output, as papers write it."""
    _, channels, *size = found.rows[-1].output
    return "x".join(map(str, (*size, channels)))


def _last(found: Table, name: str) -> int | None:
    """Field or stride of the last operation that has one, on the first axis."""
    values = [getattr(r, name) for r in found.rows if getattr(r, name)]
    return values[-1][0] if values else None


def _padding(found: Table) -> int | None:
    """How far the field of the last map's first output reaches over the input's edge, on the first axis."""
    placed = [r for r in found.rows if r.offset and r.stride and max(r.output[2:]) > 1]
    return -placed[-1].offset[0] if placed and placed[-1].offset else None


def _layers(found: Table) -> str:
    """The labels of the network's stages in their order."""
    return " ".join(dict.fromkeys(r.path.split(".")[0] for r in found.rows if r.path != "flatten"))


OF_TABLE: dict[str, Callable[[Table], float | str | None]] = {
    "params": lambda t: t.totals.params,
    "macs": lambda t: t.totals.macs,
    "activations": lambda t: t.totals.activations,
    "field": lambda t: t.totals.field[0] if t.totals.field else None,
    "stride": lambda t: _last(t, "stride"),
    "padding": _padding,
    "weights": lambda t: sum(map(_weights, t.rows)),
    "output": _output,
    "channels": lambda t: t.rows[-1].output[1],
    "inputs": _inputs,
    "values": _values,
    "value_bytes": lambda t: 4 * _values(t),
    "layers": _layers,
}
OF_RECIPE = ("lr", "batch", "momentum", "weight_decay")
COMPUTED = (*OF_TABLE, "depth", *OF_RECIPE)


def _compute(p: Published, known: Catalogue, table: Callable[[str], Table]) -> float | str | None:
    """What a printed figure comes to here; None where only a training or another machine could tell."""
    if p.metric not in COMPUTED:
        return None
    entry = known.entry(p.network)
    if p.metric == "depth":
        return entry.depth
    if p.metric in OF_RECIPE:
        return float(getattr(known.recipes[entry.recipe], p.metric))
    value = OF_TABLE[p.metric](table(p.network).under(p.layer))
    if p.versus:
        other = OF_TABLE[p.metric](table(p.versus).under(p.layer))
        return float(value or 0) / float(other or 1)
    return value


# ---- Showing --------------------------------------------------------------------------------------------------------

FIGURES = tuple(
    Column(n, n in ("printed", "here")) for n in ("figure", "printed", "here", "verdict", "source", "reason")
)
WORDS = ("statement", "layers")
STATEMENTS = tuple(Column(n) for n in ("statement about", "verdict", "statement", "source", "reason"))


def claims_text(found: Sequence[Claim]) -> str:
    """Printed beside computed, with verdict, source and reason, a line each; then the statements in words."""
    return "\n\n".join(text(*grid) for grid in grids(found))


def claims_markdown(found: Sequence[Claim]) -> str:
    """The same as GitHub tables."""
    return "\n\n".join(markdown(*grid) for grid in grids(found))


def grids(found: Sequence[Claim]) -> list[tuple[Sequence[Column], list[list[Cell]]]]:
    """Columns and rows of the figures, then of the statements; what there is none of is left out."""
    figures: list[list[Cell]] = [
        [c.id, _as_printed(c.printed), _as_computed(c), c.verdict, _source(c), c.reason]
        for c in found
        if c.metric not in WORDS
    ]
    words: list[list[Cell]] = [
        [c.network, c.verdict, c.printed, _source(c), c.reason] for c in found if c.metric in WORDS
    ]
    return [(columns, rows) for columns, rows in ((FIGURES, figures), (STATEMENTS, words)) if rows]


def _source(c: Claim) -> str:
    return f"{c.source}, {c.protocol}" if c.protocol else c.source


def _as_printed(figure: str) -> str:
    """With as many digits as stand there: "3.8e9" -> "3.8 G", "48120" -> "48,120", "0.95" -> "0.95"."""
    if re.fullmatch(r"[\d.]+e\d+", figure):
        return units.count(float(figure), digits=len(Decimal(figure).as_tuple().digits))
    return units.exact(int(figure)) if figure.isdigit() else figure


def _as_computed(c: Claim) -> Cell:
    if c.computed is None or isinstance(c.computed, str):
        return c.computed
    return units.exact(int(c.computed)) if c.computed == int(c.computed) else f"{c.computed:.4g}"
