"""The networks of a comparison as the catalogue knows them: their tables, papers and printed figures."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .. import units
from ..catalogue import Catalogue, catalogue
from ..catalogue import table as account
from ..claims import Claim, claims, grids
from ..compare import Entry
from ..layout import Cell, Column
from ..paper import Paper
from ..table import Row, Table

ROWS = 2000  # rows of layers on one page; with more, the longest tables are shown by stage
COLUMNS = (
    Column("layer"),
    Column("operation"),
    Column("output", True),
    Column("parameters", True),
    Column("MACs", True),
    Column("share of MACs", True),
    Column("receptive field", True),
)

Grid = tuple[Sequence[Column], Sequence[Sequence[Cell]]]


@dataclass(frozen=True)
class Known:
    """A network of the catalogue that entries are of."""

    name: str
    about: str
    paper: Paper
    input: str  # at which the table is
    inputs: tuple[str, ...]  # of the entries, where they are others
    by_stage: bool
    rows: tuple[tuple[Cell, ...], ...]
    total: tuple[Cell, ...]
    unused: int
    claims: tuple[Grid, ...]  # figures, then statements
    counted: tuple[tuple[str, int], ...]  # verdicts and how many claims have each


def known(entries: Iterable[Entry]) -> list[Known]:
    """Each catalogue network once, in the entries' order."""
    found = catalogue()
    inputs: dict[str, set[tuple[int, ...]]] = {}
    for e in entries:
        if e.network in found.networks:
            inputs.setdefault(e.network, set()).add(e.input)
    tables = {name: account(name) for name in inputs}
    short = _short(tables)
    printed = {name: [c for c in claims() if c.network == name] for name in inputs}
    return [_known(found, tables[name], inputs[name], name in short, printed[name]) for name in inputs]


def _short(tables: dict[str, Table]) -> set[str]:
    """Which tables are shown by stage so that all together stay below ROWS."""
    left = sum(len(t.rows) for t in tables.values())
    short: set[str] = set()
    for name in sorted(tables, key=lambda n: -len(tables[n].rows)):
        if left <= ROWS:
            break
        short.add(name)
        left -= len(tables[name].rows) - len(tables[name].stages().rows)
    return short


def _known(found: Catalogue, whole: Table, inputs: set[tuple[int, ...]], short: bool, printed: list[Claim]) -> Known:
    entry = found.networks[whole.network]
    totals = whole.totals
    verdicts = [c.verdict for c in printed]
    return Known(
        name=entry.name,
        about=entry.about,
        paper=found.papers[entry.paper],
        input=units.shape(entry.input),
        inputs=tuple(sorted(units.shape(i) for i in inputs if i != entry.input)),
        by_stage=short,
        rows=tuple(_row(r, totals.macs) for r in (whole.stages() if short else whole).rows),
        total=("total", None, None, totals.params, totals.macs, None, _field(totals.field)),
        unused=whole.unused,
        claims=tuple(grids(printed)),
        counted=tuple((v, verdicts.count(v)) for v in dict.fromkeys(verdicts)),
    )


def _row(r: Row, macs: int) -> tuple[Cell, ...]:
    share = units.percent(r.macs / macs) if macs and r.macs else None
    output = units.shape(r.output[1:])
    return (r.path, r.op, output, r.params or None, r.macs or None, share, _field(r.field))


def _field(field: tuple[int, ...] | None) -> str | None:
    if field is None:
        return None
    return str(field[0]) if len(set(field)) == 1 else units.shape(field)
