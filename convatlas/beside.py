"""Two networks side by side: their stages aligned by label, and both totals with ratios."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from textwrap import fill
from typing import Any

from . import units
from .errors import BadInput
from .layout import Cell, Column, html, markdown, text
from .record import to_json
from .table import Row, Shape, Table

WIDTH = 120  # columns of a terminal that the text keeps to
STAGES = (
    Column("stage"),
    Column("output A"),
    Column("output B"),
    *(Column(f"{name} {side}", True) for name in ("params", "MACs", "values") for side in "AB"),
    Column("MACs B/A", True),
)
TOTALS = (Column("total"), Column("A", True), Column("B", True), Column("B/A", True))
LEGEND = "params: parameters; values: activations; B/A: of the second network to the first."


@dataclass(frozen=True)
class Pair:
    """A stage of one label in both networks, or in one of them only."""

    label: str
    a: Row | None
    b: Row | None

    @property
    def ratio(self) -> float | None:
        """MACs of B for one of A; None where one of them has none."""
        return _ratio(self.a.macs, self.b.macs) if self.a and self.b else None


@dataclass(frozen=True)
class Beside:
    a: Table
    b: Table
    depth: int
    stages: tuple[Pair, ...]

    def as_text(self) -> str:
        """At most 120 columns: counts are shortened, and long labels cut in front."""
        rows = [_cells(p) for p in self.stages]
        over = max(map(len, text(STAGES, rows).splitlines())) - WIDTH
        longest = max((len(p.label) for p in self.stages), default=0)
        if over > 0:
            rows = [[_cut(str(r[0]), max(8, longest - over)), *r[1:]] for r in rows]
        title, *notes = (fill(line, WIDTH) for line in (self._title(), *self._notes().splitlines()))
        return "\n\n".join([title, text(STAGES, rows), text(TOTALS, self._totals()), "\n".join(notes)])

    def as_markdown(self) -> str:
        grids = markdown(STAGES, [_cells(p) for p in self.stages]), markdown(TOTALS, self._totals())
        return "\n\n".join([f"**{self._title()}**", *grids, self._notes()])

    def as_html(self) -> str:
        grids = html(STAGES, [_cells(p) for p in self.stages]), html(TOTALS, self._totals())
        notes = "".join(f"<p>{escape(line)}</p>" for line in self._notes().splitlines())
        return f"<h2>{escape(self._title())}</h2>{''.join(grids)}{notes}"

    _repr_html_ = as_html

    def as_json(self) -> str:
        """One line with exact counts: both networks' inputs and totals, a record a stage, and ratios B/A."""
        stages = [{"stage": p.label, "a": _record(p.a), "b": _record(p.b), "macs_ratio": p.ratio} for p in self.stages]
        return to_json(
            {
                "depth": self.depth,
                **{side: _whole(t) for side, t in (("a", self.a), ("b", self.b))},
                "stages": stages,
                "ratios": {name: _ratio(a, b) for name, a, b in self._sums()},
            }
        )

    def _title(self) -> str:
        sides = zip("AB", (self.a, self.b), strict=True)
        return ", ".join(
            f"{side}: {t.network or 'network'} ({' and '.join(map(units.shape, t.input))})" for side, t in sides
        )

    def _sums(self) -> list[tuple[str, int, int]]:
        a, b = self.a.totals, self.b.totals
        names = ("params", "macs", "backward_macs", "activations", "activation_bytes", "saved_bytes")
        return [(n, getattr(a, n), getattr(b, n)) for n in names]

    def _totals(self) -> list[list[Cell]]:
        words = {"params": "parameters", "macs": "MACs", "backward_macs": "backward MACs"}
        rows: list[list[Cell]] = [
            [words.get(n, n.replace("_", " ")), a, b, _shown(_ratio(a, b))] for n, a, b in self._sums()
        ]
        fields = self.a.totals.field, self.b.totals.field
        square = all(f and len(set(f)) == 1 for f in fields)
        ratio = _ratio(fields[0][0], fields[1][0]) if square and fields[0] and fields[1] else None
        return [*rows, ["receptive field", *(units.shape(f) if f else None for f in fields), _shown(ratio)]]

    def _notes(self) -> str:
        lines = [LEGEND]
        for side, t in (("A", self.a), ("B", self.b)):
            if t.uncounted:
                lines.append(f"Not counted in {side}, no rule for: {', '.join(t.uncounted)}.")
        if self.a.convention == self.b.convention:
            return "\n".join([*lines, f"Convention: {self.a.convention}."])
        return "\n".join([*lines, f"Convention of A: {self.a.convention}.", f"Convention of B: {self.b.convention}."])


def beside(a: Table, b: Table, depth: int = 1) -> Beside:
    """Stages of both networks, of that many names, aligned by equal labels in order.

    As many as can be are aligned (the longest common subsequence); each of the others has a line of its own. Raises
    BadInput for a depth below 1.
    """
    if depth < 1:
        raise BadInput(f"depth {depth} is none; give 1 for the stages, 2 for what is inside them")
    left, right = a.stages(depth).rows, b.stages(depth).rows
    pairs, i, j = [], 0, 0
    for x, y in [*_common([r.path for r in left], [r.path for r in right]), (len(left), len(right))]:
        pairs += [Pair(r.path, r, None) for r in left[i:x]]
        pairs += [Pair(r.path, None, r) for r in right[j:y]]
        if x < len(left):
            pairs.append(Pair(left[x].path, left[x], right[y]))
        i, j = x + 1, y + 1
    return Beside(a, b, depth, tuple(pairs))


def _common(a: Sequence[str], b: Sequence[str]) -> list[tuple[int, int]]:
    """Places of a longest common subsequence. Equal ends are taken off before, since most networks have them."""
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    end = 0
    while end < min(len(a), len(b)) - start and a[-1 - end] == b[-1 - end]:
        end += 1
    x, y = a[start : len(a) - end], b[start : len(b) - end]
    longest = [[0] * (len(y) + 1) for _ in range(len(x) + 1)]
    for i in range(len(x) - 1, -1, -1):
        for j in range(len(y) - 1, -1, -1):
            same = longest[i + 1][j + 1] + 1
            longest[i][j] = same if x[i] == y[j] else max(longest[i + 1][j], longest[i][j + 1])
    out = [(k, k) for k in range(start)]
    i = j = 0
    while i < len(x) and j < len(y):
        if x[i] == y[j]:
            out.append((start + i, start + j))
            i, j = i + 1, j + 1
        elif longest[i + 1][j] >= longest[i][j + 1]:
            i += 1
        else:
            j += 1
    return out + [(len(a) - k, len(b) - k) for k in range(end, 0, -1)]


def _ratio(a: int, b: int) -> float | None:
    return b / a if a and b else None


def _shown(ratio: float | None) -> str | None:
    return None if ratio is None else units.count(ratio)


def _cells(p: Pair) -> list[Cell]:
    def both(value: Callable[[Row], Cell]) -> list[Cell]:
        return [value(r) if r else None for r in (p.a, p.b)]

    return [
        p.label or "(forward)",
        *both(lambda r: units.shape(r.output)),
        *both(lambda r: units.count(r.params)),
        *both(lambda r: units.count(r.macs)),
        *both(lambda r: units.count(r.activations)),
        _shown(p.ratio),
    ]


def _cut(label: str, width: int) -> str:
    """The end of a label says more than its beginning: features.denseblock1.denselayer1."""
    return label if len(label) <= width else f"…{label[len(label) - width + 1 :]}"


RECORDED = "output params macs backward_macs activations activation_bytes saved_bytes field stride offset".split()  # noqa: SIM905


def _record(row: Row | None) -> dict[str, int | Shape | None] | None:
    return {name: getattr(row, name) for name in RECORDED} if row else None


def _whole(t: Table) -> dict[str, Any]:
    names = ("network", "input", "totals", "uncounted", "convention")
    return {name: getattr(t, name) for name in names}
