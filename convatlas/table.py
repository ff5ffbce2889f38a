"""A network's account: a row an operation, totals, the counting convention, and what could not be counted."""

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as given
from functools import partial
from itertools import groupby
from typing import Any

from . import units
from .layout import Cell, Column, csv_text, html, markdown, text
from .record import from_json, to_json

CONVENTION = (
    "1 MAC = one multiply-add of a convolution, linear layer, matrix product or attention; "
    "biases, normalisation, activation functions, pooling and additions are not counted"
)
Shape = tuple[int, ...]
Setting = dict[str, int | float | bool | str | tuple[int | float | str | bool | None, ...] | None]


@dataclass(frozen=True)
class Row:
    """One call of one operation. Batch size stands in the shapes; counts are for the whole batch."""

    path: str  # path of the innermost module that made the call; "" for the network's own forward
    op: str  # the function's name: conv2d, linear, max_pool2d, add, cat
    inputs: tuple[Shape, ...]  # shapes of the tensors that come from the data
    output: Shape
    params: int  # elements of the parameters that this call is the first to use
    macs: int
    activations: int  # elements of the output; 0 where it is a view of, or overwrites, an input
    activation_bytes: int
    field: Shape | None = None  # receptive field on the input per axis; None where the output has no spatial axes
    stride: Shape | None = None  # input pixels between neighbouring outputs, per axis; None where there is only one
    saved_bytes: int = 0  # what autograd keeps for the backward pass and no earlier call kept, parameters left out
    backward_macs: int = 0  # of the gradients of inputs and weights, as far as each is needed
    offset: Shape | None = None  # where on the input the field of the first output begins, per axis; -3 with padding 3
    # what its formulas need besides shapes: kernel, stride, padding, eps, ...
    setting: Setting = given(default_factory=dict, hash=False)


@dataclass(frozen=True)
class Totals:
    params: int
    macs: int
    activations: int
    activation_bytes: int
    field: Shape | None  # of the last feature map that still has a size (before global pooling)
    saved_bytes: int = 0
    backward_macs: int = 0


@dataclass(frozen=True)
class Table:
    network: str
    input: tuple[Shape, ...]
    rows: tuple[Row, ...]
    unused: int = 0  # elements of parameters that no operation used (auxiliary heads in evaluation)
    uncounted: tuple[str, ...] = ()  # functions without a rule: their MACs are unknown and not in the totals
    convention: str = CONVENTION

    @property
    def totals(self) -> Totals:
        rows = self.rows[::-1]
        field = next((r.field for r in rows if r.field and r.stride and max(r.output[2:], default=1) > 1), None)
        return Totals(
            sum([r.params for r in rows]) + self.unused,
            sum([r.macs for r in rows]),
            sum([r.activations for r in rows]),
            sum([r.activation_bytes for r in rows]),
            field or next((r.field for r in rows if r.field), None),
            sum([r.saved_bytes for r in rows]),
            sum([r.backward_macs for r in rows]),
        )

    def under(self, path: str) -> "Table":
        """The rows of one module and of those inside it; "" gives all."""
        rows = tuple(r for r in self.rows if not path or r.path == path or r.path.startswith(f"{path}."))
        return Table(self.network, self.input, rows, 0, self.uncounted, self.convention)

    def stages(self, depth: int = 1) -> "Table":
        """A row for all neighbouring operations under one module path of that many names.

        The catalogue's networks carry their papers' labels on top, so that one name gives the paper's own table. Counts
        are summed; output, receptive field, stride and offset are the last operation's.
        """
        groups = groupby(self.rows, lambda r: ".".join(r.path.split(".")[:depth]))
        rows = tuple(_merged(path, list(rows)) for path, rows in groups)
        return Table(self.network, self.input, rows, self.unused, self.uncounted, self.convention)

    def by(self, count: str) -> "Table":
        """The rows with the largest first: by params, macs, backward_macs, activations (bytes) or saved (bytes)."""
        key = {"activations": "activation_bytes", "saved": "saved_bytes"}.get(count, count)
        rows = tuple(sorted(self.rows, key=lambda r: -getattr(r, key)))
        return Table(self.network, self.input, rows, self.unused, self.uncounted, self.convention)

    def as_json(self) -> str:
        """One line of JSON with name, input, rows, totals, uncounted and convention; `read_table` reads it back."""
        record: dict[str, Any] = {f: getattr(self, f) for f in self.__dataclass_fields__}
        return to_json({**record, "totals": self.totals})

    def as_csv(self) -> str:
        """A line a row, exact integers, no totals and no shares."""
        kept = [i for i, column in enumerate(COLUMNS) if column.name != "share"]
        rows = [_cells(r, str, 0) for r in self.rows]
        return csv_text([COLUMNS[i] for i in kept], [[row[i] for i in kept] for row in rows])

    def as_text(self, width: int | None = None) -> str:
        """Aligned columns; with a width, those that are least asked for are left out until it fits."""
        return f"{self._title()}\n\n{self._grid(partial(text, width=width))}\n\n{self._notes()}"

    def as_markdown(self) -> str:
        return f"**{self._title()}**\n\n{self._grid(markdown)}\n\n{self._notes()}"

    def as_html(self) -> str:
        from html import escape

        notes = "".join(f"<p>{escape(line)}</p>" for line in self._notes().splitlines())
        return f"<h2>{escape(self._title())}</h2>{self._grid(html)}{notes}"

    _repr_html_ = as_html

    def _title(self) -> str:
        return f"{self.network or 'network'}, input {' and '.join(units.shape(s) for s in self.input)}"

    def _grid(self, render: Callable[..., str]) -> str:
        t = self.totals
        sizes = units.size(t.activation_bytes), units.size(t.saved_bytes)
        total: list[Cell] = [
            "total",
            None,
            None,
            None,
            t.params,
            t.macs,
            None,
            t.backward_macs,
            *sizes,
            None,
            None,
            None,
        ]
        inputs: list[list[Cell]] = [["input", None, None, units.shape(s), *[None] * 9] for s in self.input]
        return render(COLUMNS, [*inputs, *(_cells(r, units.size, t.macs) for r in self.rows)], total)

    def _notes(self) -> str:
        t = self.totals
        field = f", receptive field {units.shape(t.field) if len(set(t.field)) > 1 else t.field[0]}" if t.field else ""
        lines = [
            f"{units.exact(t.params)} parameters, {units.exact(t.macs)} MACs, "
            f"{units.size(t.activation_bytes)} of activations{field}.",
            f"Backward: {units.exact(t.backward_macs)} MACs, {units.size(t.saved_bytes)} kept for it.",
            f"Convention: {self.convention}.",
        ]
        if self.unused:
            lines.append(f"{units.exact(self.unused)} of the parameters are used by no operation of this pass.")
        missing = ", ".join(self.uncounted)
        lines.append(f"Not counted, no rule for: {missing}." if missing else "Every operation was counted.")
        return "\n".join(lines)


COLUMNS = (
    Column("module"),
    Column("operation"),
    Column("input"),
    Column("output"),
    Column("parameters", True),
    Column("MACs", True),
    Column("share", True),
    Column("backward MACs", True),
    Column("activations", True),
    Column("saved", True),
    Column("field", True),
    Column("stride", True),
    Column("offset", True),
)


def read_table(source: str | bytes) -> Table:
    """The table that `as_json` wrote; totals are computed anew from the rows."""
    return from_json(Table, source)


FEW = 3  # operations of a stage that are named before they are only counted


def _merged(path: str, rows: list[Row]) -> Row:
    names = list(dict.fromkeys(r.op for r in rows))
    placed = [r for r in rows if r.field]
    return Row(
        path,
        ", ".join(names) if len(names) <= FEW and len(rows) <= 2 * FEW else f"{len(rows)} operations",
        rows[0].inputs,
        rows[-1].output,
        sum(r.params for r in rows),
        sum(r.macs for r in rows),
        sum(r.activations for r in rows),
        sum(r.activation_bytes for r in rows),
        placed[-1].field if placed else None,
        placed[-1].stride if placed else None,
        sum(r.saved_bytes for r in rows),
        sum(r.backward_macs for r in rows),
        placed[-1].offset if placed else None,
    )


def _cells(r: Row, size: Callable[[int], str], total: int) -> list[Cell]:
    inputs = " ".join(units.shape(s) for s in r.inputs)
    return [
        r.path,
        r.op,
        inputs,
        units.shape(r.output),
        r.params,
        r.macs,
        units.percent(r.macs / total) if total and r.macs else None,
        r.backward_macs,
        size(r.activation_bytes),
        size(r.saved_bytes),
        *map(_axes, (r.field, r.stride, r.offset)),
    ]


def _axes(value: Shape | None) -> str | None:
    """One number where all axes agree."""
    if value is None:
        return None
    return str(value[0]) if len(set(value)) == 1 else units.shape(value)
