"""A network as a picture: one HTML page that opens offline and folds open, and a Mermaid flowchart."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

from . import units
from .branches import JOINS, Part, Piece, Split, axes, parts
from .pages import HERE, digest, legible, write_page
from .result import now, versions
from .table import Row, Shape, Table

# Shows the two buttons, which need it; the page folds without.
FOLD = """
for (const [id, open] of [["unfold", true], ["fold", false]]) {
  const button = document.getElementById(id);
  button.hidden = false;
  const all = document.querySelectorAll(".diagram details");
  button.addEventListener("click", () => all.forEach((d) => { d.open = open; }));
}
"""

KINDS = (
    ("convolution", ("conv",)),
    ("product", ("linear", "mm", "matmul", "einsum", "attention")),
    ("pooling", ("pool", "mean")),
    ("join", JOINS),
)
WIDEST, THICKEST = 112, 34  # pixels of the largest map's side and of the most channels


@dataclass(frozen=True)
class Slab:
    """A feature map as a box, in pixels: the map lies flat, its channels are stacked."""

    width: float
    height: float


@dataclass(frozen=True)
class Block:
    """What the page says of one part; empty texts are left out."""

    name: str
    path: str
    what: str
    kind: str
    output: str
    params: str
    macs: str
    share: float  # of the network's MACs, in percent
    activations: str
    field: str
    slab: Slab | None  # None: the map stays as it was
    inside: "tuple[Block | Fork, ...]" = ()
    open: bool = False


@dataclass(frozen=True)
class Fork:
    branches: "tuple[tuple[Block | Fork, ...], ...]"
    join: Block
    shortcut: str


def page(table: Table, out: Path) -> Path:
    """Writes the diagram as a page of its own, with the whole table at its end, and gives the path.

    Raises SaveFailed where the disk refuses.
    """
    from markupsafe import Markup

    shown = legible(table)
    style = "\n".join((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "diagram.css"))
    draw = _Draw(shown)
    content: dict[str, Any] = {
        "table": shown,
        "title": shown.network or "network",
        "input": " and ".join(units.shape(s) for s in shown.input),
        "batch": draw.batch,
        "policy": "default-src 'none'; base-uri 'none'; form-action 'none'; "
        f"style-src 'sha256-{digest(style)}'; script-src 'sha256-{digest(FOLD)}'",
        "style": Markup(style),
        "fold": Markup(FOLD),
        "tiles": _tiles(shown),
        "inputs": [(draw.shape(s), draw.slab(s)) for s in shown.input],
        "blocks": draw.blocks(parts(shown.rows)),
        "whole": Markup(shown.as_html()),
        "exact": units.exact,
        "made": now(),
        "version": versions(["convatlas"]).get("convatlas", ""),
    }
    return write_page("diagram.html", content, out)


def _tiles(table: Table) -> list[tuple[str, str, str]]:
    t = table.totals
    tiles = [
        ("Parameters", units.count(t.params), units.exact(t.params)),
        ("MACs", units.count(t.macs), units.exact(t.macs)),
        ("Activations", units.count(t.activations), units.size(t.activation_bytes)),
    ]
    if t.field:
        tiles.append(("Receptive field", _square(t.field), "pixels of the input"))
    return tiles


class _Draw:
    """What all blocks of one table are measured by."""

    def __init__(self, table: Table):
        shapes = [*table.input, *(r.output for r in table.rows)]
        firsts = {s[0] for s in table.input if len(s) > 1}
        self.batch = firsts.pop() if len(firsts) == 1 else None
        self.macs = table.totals.macs
        self.side = max((self._side(s) for s in shapes), default=1)
        self.channels = max((self._channels(s) for s in shapes), default=1)

    def shape(self, shape: Shape) -> str:
        return units.shape(self._one(shape))

    def _one(self, shape: Shape) -> Shape:
        """Without the batch."""
        return shape[1:] if len(shape) > 1 and shape[0] == self.batch else shape

    def _channels(self, shape: Shape) -> int:
        """The first of a map's sides, the last of a sequence of tokens."""
        one = self._one(shape) or (1,)
        return one[0] if len(one) != 2 else one[1]

    def _side(self, shape: Shape) -> float:
        """Of the square with as many places as the map has."""
        places = 1
        for n in self._one(shape) or (1,):
            places *= n
        return sqrt(places / max(self._channels(shape), 1))

    def slab(self, shape: Shape) -> Slab:
        """Width by the map's side and height by its channels; their square roots, so that small ones are still seen."""
        width = 8 + (WIDEST - 8) * sqrt(self._side(shape) / max(self.side, 1))
        height = 3 + (THICKEST - 3) * sqrt(self._channels(shape) / max(self.channels, 1))
        return Slab(round(width, 1), round(height, 1))

    def blocks(self, pieces: Sequence[Piece]) -> "tuple[Block | Fork, ...]":
        return tuple(self._fork(p) if isinstance(p, Split) else self._block(p) for p in pieces)

    def _fork(self, split: Split) -> Fork:
        return Fork(tuple(map(self.blocks, split.branches)), self._block(split.join), split.shortcut)

    def _block(self, part: Part) -> Block:
        first, last, macs = part.rows[0], part.rows[-1], part.macs
        placed = [r.field for r in part.rows if r.field]
        same = not part.inside and macs == 0 and first.output in first.inputs and "kernel" not in first.setting
        share = 100 * macs / self.macs if self.macs else 0.0
        forks = any(isinstance(p, Split) for p in part.inside)
        return Block(
            part.name,
            part.path,
            _what(part),
            _kind(part),
            self.shape(last.output),
            _some(sum(r.params for r in part.rows)),
            _some(macs),
            round(share, 2),
            _some(sum(r.activations for r in part.rows)),
            _square(placed[-1]) if placed else "",
            None if same and first.op not in JOINS else self.slab(last.output),
            self.blocks(part.inside),
            forks or 2 * macs > self.macs,
        )


def _some(n: int) -> str:
    return units.count(n) if n else ""


def _square(value: Shape) -> str:
    return f"{value[0]}x{value[0]}" if len(set(value)) == 1 and len(value) == 2 else units.shape(value)


def window(row: Row) -> str:
    """Kernel and stride as papers write them, "7x7 / 2", and what else is not plain: "3x3 (32 groups)"; "" without."""
    kernel = row.setting.get("kernel")
    if kernel is None:
        return ""
    sides = len(kernel) if isinstance(kernel, tuple | list) else 1
    text = units.shape(axes(row, "kernel", sides))
    stride, dilation = axes(row, "stride", sides), axes(row, "dilation", sides)
    if set(stride) != {1}:
        text += f" / {stride[0] if len(set(stride)) == 1 else units.shape(stride)}"
    groups = row.setting.get("groups", 1)
    more = [f"{groups} groups"] if isinstance(groups, int) and groups > 1 else []
    if set(dilation) != {1}:
        more.append(f"dilation {dilation[0] if len(set(dilation)) == 1 else units.shape(dilation)}")
    return f"{text} ({', '.join(more)})" if more else text


FEW = 3


def _what(part: Part) -> str:
    """Kernels, or for an operation without one its name and for a large module how many it holds."""
    if not part.inside:
        row = part.rows[0]
        kernel = window(row)
        word = "" if part.name.rstrip("_0123456789") == row.op and not kernel else row.op
        return " ".join(filter(None, (kernel, word)))
    windows = [w for w in map(window, part.rows) if w]
    if 0 < len(windows) <= FEW:
        return ", ".join(windows)
    return f"{len(part.rows)} operations"


def _kind(part: Part) -> str:
    """Of the operation with the most MACs, or without any of the first that has a colour of its own."""
    row = max(part.rows, key=lambda r: r.macs)
    rows = (row,) if row.macs else part.rows
    kinds = [kind for r in rows for kind, words in KINDS if any(w in r.op for w in words)]
    return kinds[0] if kinds else "other"


def mermaid(table: Table, depth: int = 1) -> str:
    """A Mermaid flowchart, which GitHub draws: modules down to `depth` names of their paths, with shape and counts.

    A label is the module's name, its output, and parameters and MACs where it has any. Branches are drawn where they
    can be inferred; a shortcut has an arrow of its own, dotted where it is only likely.
    """
    return "\n".join(_Flowchart(table).lines(depth))


class _Flowchart:
    def __init__(self, table: Table):
        self.table = table
        self.draw = _Draw(table)
        self.out = ["flowchart TD"]
        self.edges: list[str] = []
        self.nodes = 0

    def lines(self, depth: int) -> list[str]:
        shapes = " and ".join(self.draw.shape(s) for s in self.table.input)
        self.out.append(f'    input(["input<br>{_escaped(shapes)}"])')
        self._chain(parts(self.table.rows), "input", max(depth, 1), "    ")
        return [*self.out, *self.edges]

    def _chain(self, pieces: Sequence[Piece], source: str, depth: int, indent: str) -> str:
        """Draws pieces one after the other; gives the last node."""
        for piece in pieces:
            if isinstance(piece, Split):
                ends = [self._chain(branch, source, depth, indent) for branch in piece.branches]
                join = self._node(piece.join, indent)
                self.edges += [f"    {end} --> {join}" for end in ends]
                if piece.shortcut:
                    self.edges.append(f"    {source} {'-.->' if 'likely' in piece.shortcut else '-->'} {join}")
                source = join
            elif depth > 1 and piece.inside:
                self.nodes += 1
                self.out.append(f'{indent}subgraph g{self.nodes}["{_escaped(piece.name)}"]')
                source = self._chain(piece.inside, source, depth - 1, indent + "    ")
                self.out.append(f"{indent}end")
            else:
                node = self._node(piece, indent)
                self.edges.append(f"    {source} --> {node}")
                source = node
        return source

    def _node(self, part: Part, indent: str) -> str:
        self.nodes += 1
        params, macs = sum(r.params for r in part.rows), part.macs
        counts = f"{units.count(params)}, {units.count(macs)}" if params or macs else ""
        label = "<br>".join(map(_escaped, filter(None, (part.name, self.draw.shape(part.rows[-1].output), counts))))
        self.out.append(f'{indent}n{self.nodes}["{label}"]')
        return f"n{self.nodes}"


def _escaped(label: str) -> str:
    """Mermaid's own entities for all that its labels or the HTML in them would read as something else."""
    return "".join(c if c.isalnum() or c in " .,-_/()" else f"#{ord(c)};" for c in label)
