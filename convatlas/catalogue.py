"""The papers, networks, recipes and printed figures as generated data, read without torch.

The papers' files under networks/ are the only place where these are written by hand; `python tools/generate.py` copies
them into catalogue_data/ with each network's table at its own input, and a test fails when the copy is stale.
"""

from collections.abc import Sequence
from dataclasses import dataclass
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
    depth: int  # layers with weights on the longest way from input to output


@dataclass(frozen=True)
class Errors:
    """What was published about a network's accuracy, as errors in per cent, by the first protocol that is known."""

    top1: str | None
    top5: str | None
    protocol: str
    source: str


@dataclass(frozen=True)
class Catalogue:
    papers: dict[str, Paper]
    networks: dict[str, Entry]
    recipes: dict[str, Recipe]
    published: dict[str, tuple[Published, ...]]  # by the key of the file that has them

    def entry(self, name: str) -> Entry:
        """Raises UnknownName with near names."""
        if name not in self.networks:
            raise UnknownName("network", name, self.networks, "`convatlas list` shows all")
        return self.networks[name]

    def printed(self, name: str) -> list[Published]:
        """All figures about one network, its own paper's first."""
        own = self.networks[name].paper
        keys = [own, *(key for key in self.published if key != own)]
        return [p for key in keys for p in self.published[key] if p.network == name]

    def errors(self, name: str) -> Errors | None:
        """The published errors that `list` shows, both by one protocol; None where there are none."""
        found = [p for p in self.printed(name) if p.metric in ERRORS and not p.layer and not p.differs]
        if not found:
            return None
        first = found[0]
        same = [p for p in found if (p.source, p.protocol) == (first.source, first.protocol)]
        top1, top5 = (next((_error(p) for p in same if p.metric.startswith(top)), None) for top in ("top1", "top5"))
        return Errors(top1, top5, first.protocol, first.source)


ERRORS = ("top1_error", "top5_error", "top1_accuracy", "top5_accuracy")


def _error(p: Published) -> str:
    """With the printed digits: an accuracy of "76.130" is an error of "23.870"."""
    return p.printed if p.metric.endswith("error") else str(100 - Decimal(p.printed))


@cache
def catalogue() -> Catalogue:
    return from_json(Catalogue, (FOLDER / "catalogue.json").read_bytes())


def table(name: str) -> Table:
    """A network's account at its own input. Raises UnknownName."""
    catalogue().entry(name)
    return read_table((FOLDER / "tables" / f"{name}.json").read_bytes())


def list_text(entries: Sequence[Entry]) -> str:
    """Networks with their papers, inputs, totals and published errors, a line each."""
    names = (
        "network",
        "paper",
        "input",
        "parameters",
        "MACs",
        "top-1",
        "top-5",
        "published errors in %: where and how",
    )
    columns = [Column(n, n in ("parameters", "MACs", "top-1", "top-5")) for n in names]
    known = catalogue()
    rows: list[list[Cell]] = []
    for e in entries:
        counts = (units.shape(e.input), units.count(e.params), units.count(e.macs))
        errors = known.errors(e.name)
        how = (errors.top1, errors.top5, f"{errors.source}: {errors.protocol}") if errors else ()
        rows.append([e.name, f"{e.paper} {known.papers[e.paper].year}", *counts, *(how or (None, None, None))])
    return text(columns, rows)


def list_json(entries: Sequence[Entry]) -> str:
    """The same with exact counts and every figure that was printed about each network."""
    known = catalogue()
    return to_json(
        [
            {f: getattr(e, f) for f in e.__dataclass_fields__}
            | {
                "year": known.papers[e.paper].year,
                "errors": known.errors(e.name),
                "published": known.printed(e.name),
            }
            for e in entries
        ]
    )
