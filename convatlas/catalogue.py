"""The papers, networks, recipes and printed figures as generated data, read without torch.

The papers' files under networks/ are the only place where these are written by hand; `python tools/generate.py` copies
them into catalogue_data/ with each network's table at its own input, and a test fails when the copy is stale.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from pathlib import Path

from . import units
from .errors import UnknownName
from .layout import Cell, Column, text
from .paper import Paper, Published, Recipe
from .record import from_json, to_json
from .table import Shape, Table, read_table

FOLDER = Path(__file__).parent / "catalogue_data"


@dataclass(frozen=True)
class Entry:
    """A network of the catalogue with its totals at its own input, batch 1."""

    name: str
    paper: str  # the paper's key, which is its file's name
    input: tuple[int, int, int]
    classes: int
    recipe: str
    about: str
    params: int
    macs: int
    activation_bytes: int
    field: Shape | None


@dataclass(frozen=True)
class Catalogue:
    papers: dict[str, Paper]
    networks: dict[str, Entry]
    recipes: dict[str, Recipe]
    published: tuple[Published, ...]

    def entry(self, name: str) -> Entry:
        """Raises UnknownName with near names."""
        if name not in self.networks:
            raise UnknownName("network", name, self.networks, "`convatlas list` shows all")
        return self.networks[name]


@cache
def catalogue() -> Catalogue:
    return from_json(Catalogue, (FOLDER / "catalogue.json").read_bytes())


def table(name: str) -> Table:
    """A network's account at its own input. Raises UnknownName."""
    catalogue().entry(name)
    return read_table((FOLDER / "tables" / f"{name}.json").read_bytes())


def list_text(entries: Sequence[Entry]) -> str:
    """Networks with their papers, inputs and totals, a line each."""
    columns = [
        Column(n, n in ("parameters", "MACs")) for n in ("network", "paper", "input", "parameters", "MACs", "about")
    ]
    rows: list[list[Cell]] = []
    for e in entries:
        paper = f"{e.paper} {catalogue().papers[e.paper].year}"
        rows.append([e.name, paper, units.shape(e.input), units.count(e.params), units.count(e.macs), e.about])
    return text(columns, rows)


def list_json(entries: Sequence[Entry]) -> str:
    """The same with exact counts and the figures that were printed about each network."""
    known = catalogue()
    printed = {e.name: [p for p in known.published if p.network == e.name] for e in entries}
    fields = ("name", "paper", "input", "classes", "recipe", "about", "params", "macs", "activation_bytes", "field")
    return to_json(
        [
            {f: getattr(e, f) for f in fields} | {"year": known.papers[e.paper].year, "published": printed[e.name]}
            for e in entries
        ]
    )


@dataclass(frozen=True)
class Claim:
    """A printed figure beside ours. Verdicts: holds; differs (for the reason given); not computed; unexplained.

    `id` is network, layer, metric and source: "lenet5.c3.params.section-ii-b".
    """

    id: str
    network: str
    metric: str
    source: str
    printed: str
    computed: float | None
    verdict: str
    reason: str


def claims(paper: str | None = None) -> list[Claim]:
    """Every printed figure checked against the tables, of one paper or of all. Raises UnknownName."""
    known = catalogue()
    if paper is not None and paper not in known.papers:
        raise UnknownName("paper", paper, known.papers)
    made = _claims()
    return [made[i] for i, p in enumerate(known.published) if paper in (None, known.entry(p.network).paper)]


@cache
def _claims() -> list[Claim]:
    """All claims, with a number behind an id that an earlier one has, so that an id names one figure."""
    seen: Counter[str] = Counter()
    out = []
    for claim in map(_claim, catalogue().published):
        seen[claim.id] += 1
        again = seen[claim.id]
        out.append(replace(claim, id=f"{claim.id}-{again}") if again > 1 else claim)
    return out


COMPUTED = ("params", "macs", "activations", "field")


def _claim(p: Published) -> Claim:
    computed: float | None = None
    if p.metric in COMPUTED:
        totals = table(p.network).under(p.layer).totals
        value = getattr(totals, p.metric)
        computed = value[0] if p.metric == "field" and value else value
    if computed is None:
        verdict = "not computed"
    elif abs(computed - p.value) <= p.half * (1 + 1e-9):
        verdict = "holds"
    else:
        verdict = "differs" if p.reason else "unexplained"
    where = f"{p.network}.{p.layer}" if p.layer else p.network
    source = f"{p.source}, {p.protocol}" if p.protocol else p.source
    key = f"{where}.{p.metric}.{re.sub(r'[^a-z0-9]+', '-', p.source.lower())}"
    return Claim(key, p.network, p.metric, source, p.printed, computed, verdict, p.reason)


def _as_printed(figure: str) -> str:
    """With as many digits as stand there: "3.8e9" -> "3.8 G", "48120" -> "48,120", "0.95" -> "0.95"."""
    if "e" in figure:
        return units.count(float(figure), digits=len(Decimal(figure).as_tuple().digits))
    return units.exact(int(figure)) if figure.isdigit() else figure


def claims_text(found: Sequence[Claim]) -> str:
    """Printed beside computed, with verdict and reason, a line each."""
    columns = [
        Column(n, n in ("printed", "computed"))
        for n in ("figure", "source", "printed", "computed", "verdict", "reason")
    ]
    rows: list[list[Cell]] = [
        [
            c.id,
            c.source,
            _as_printed(c.printed),
            None if c.computed is None else units.exact(int(c.computed)),
            c.verdict,
            c.reason,
        ]
        for c in found
    ]
    return text(columns, rows)
