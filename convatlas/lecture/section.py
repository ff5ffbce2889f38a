"""A section of the page, and what its figures come to."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from ..charts import Chart
from ..claims import AGREES, DIFFERS, OPEN, WORDS, Claim, grids
from ..layout import Cell, Column
from .words import Say

DRAWING = "a drawing"
MEASURED, UNMEASURED, UNMEASURABLE = "measured here", "not measured here", "not measurable here"
VERDICTS = (AGREES, DIFFERS, OPEN)


@dataclass(frozen=True)
class Grid:
    caption: str
    columns: Sequence[Column]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Section:
    """One table, chart or drawing of the lecture: what it shows, what it comes to here, and where the two differ."""

    key: str
    title: str
    shows: str
    computed: str
    claims: tuple[Claim, ...] = ()
    charts: tuple[Chart, ...] = ()
    grids: tuple[Grid, ...] = ()
    notes: tuple[str, ...] = ()
    command: str = ""  # that would measure what is missing
    standing: str = ""  # MEASURED, UNMEASURED or UNMEASURABLE, where a machine has to measure it

    @property
    def verdict(self) -> str:
        """In one word: what differs comes first, then what was measured or agrees, then what cannot be computed."""
        found = self.counts
        if found[DIFFERS]:
            return DIFFERS
        if self.standing:
            return self.standing
        return AGREES if found[AGREES] else OPEN if found[OPEN] else DRAWING

    @property
    def counts(self) -> Counter[str]:
        """How many figures there are of each verdict, in the order of VERDICTS."""
        found = Counter(c.verdict for c in self.claims)
        return Counter({v: found[v] for v in VERDICTS if found[v]})

    @property
    def slips(self) -> list[tuple[str, list["Slip"]]]:
        """What differs, by the reason."""
        found: dict[str, list[Slip]] = {}
        for c in self.claims:
            if c.verdict == DIFFERS:
                about = ("", "") if c.metric == "statement" else (network_of(c), METRICS[c.metric])
                found.setdefault(c.reason, []).append(Slip(*about, *said(c)))
        return list(found.items())


@dataclass(frozen=True)
class Slip:
    """A figure or statement of the lecture that something else contradicts."""

    network: str  # and layer; "" for a statement
    metric: str
    printed: str
    here: str  # "" where nothing can be computed


METRICS = {
    "params": "parameters",
    "macs": "MACs",
    "output": "output",
    "field": "receptive field",
    "stride": "stride",
    "channels": "channels",
    "weights": "weights without biases",
    "activations": "numbers kept",
    "inputs": "numbers of the input",
    "values": "numbers kept in all",
    "value_bytes": "bytes kept in all",
    "layers": "order of the layers",
    "depth": "layers with weights",
    "lr": "learning rate",
    "batch": "batch size",
    "momentum": "momentum",
    "weight_decay": "weight decay",
    "top5_error": "top-5 error, %",
    "top1_accuracy": "top-1 accuracy, %",
    "forward_ms": "forward time, ms",
    "watts": "power, W",
    "statement": "statement",
}
CHECKED = [Column(n) for n in ("network, layer", "figure", "the lecture", "here", "verdict", "where, and how taken")]


def said(c: Claim) -> tuple[str, str]:
    """As it was printed, and as it comes to here; "" where nothing can be computed."""
    if c.metric in WORDS or isinstance(c.computed, str):
        return c.printed, str(c.computed or "")
    ((_, (row,)),) = grids([c])
    return str(row[1]), str(row[2] if row[2] is not None else "")


def checked(claims: Sequence[Claim], say: Say) -> Grid:
    """Every figure and statement, a row each; beside a statement stands what supports or contradicts it.

    Where and how it was taken is in the language of `say`, all else is left to the page.
    """
    rows: list[list[Cell]] = []
    for c in claims:
        printed, here = said(c)
        if c.metric == "statement":
            here = c.reason
        where = say(", ").join(filter(None, (*map(say, c.source.split(", ")), say(c.protocol))))
        rows.append([network_of(c), METRICS[c.metric], printed, here or "—", c.verdict, where])
    return Grid("Every figure checked", CHECKED, rows)


def network_of(c: Claim) -> str:
    """Network and layer, and the network that a ratio divides by, from the claim's id."""
    layer, _, rest = c.id.removeprefix(c.network or "others").rpartition(f".{c.metric}")
    other = rest.split(".")[0].removeprefix("-by-")
    return f"{c.network} {layer.strip('.')}".strip() + (f" / {other}" if other else "") or "—"
