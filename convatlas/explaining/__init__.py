"""Why a row of a table says what it says: each figure's formula, filled in with that row's numbers."""

from dataclasses import dataclass
from typing import Any

from ..errors import UnknownName
from ..layout import Column, text
from ..table import Row, Shape, Table
from ..units import shape as times
from .counts import activation_lines, backward_lines, mac_lines, parameter_lines
from .fields import Feeding, field_lines
from .formula import Line
from .keeping import saved_lines
from .sizes import size_lines
from .words import does


@dataclass(frozen=True)
class Explained:
    """One operation. Lines are pairs of what is explained and its text, in the order of a table's columns."""

    path: str
    op: str
    inputs: tuple[Shape, ...]
    output: Shape
    lines: tuple[Line, ...]

    def line(self, name: str) -> str:
        """The text of that name; "" where there is none."""
        return dict(self.lines).get(name, "")


@dataclass(frozen=True)
class Explanation:
    """The operations of one row or stage, in the order in which they run."""

    network: str
    label: str
    rows: tuple[Explained, ...]

    def as_text(self) -> str:
        """A block an operation: what it is, then a line a figure."""
        title = ", ".join(filter(None, (self.network or "network", self.label)))
        return "\n\n".join([title, *map(_block, self.rows)])

    def as_dict(self) -> dict[str, Any]:
        """For JSON: network, label, and for each operation its path, op, shapes and texts by name."""
        rows = [
            {"path": r.path, "op": r.op, "inputs": r.inputs, "output": r.output, "lines": dict(r.lines)}
            for r in self.rows
        ]
        return {"network": self.network, "label": self.label, "rows": rows}


def explain(table: Table, row_path: str) -> Explanation:
    """Fills in the formulas for the operations of one row's path, or of all that lie under a stage's label.

    "" explains all. A formula is shown only where its value, worked out from the text that is shown, is the row's own
    figure; else the figure stands alone with what is known about it. A table that is read from a file without settings
    (kernel, stride, padding) has fewer formulas. Raises UnknownName with near labels.
    """
    chosen = [i for i, r in enumerate(table.rows) if _under(r.path, row_path)]
    if not chosen:
        stages = ", ".join(dict.fromkeys(r.path.split(".")[0] for r in table.rows if r.path))
        raise UnknownName("row or stage", row_path, _labels(table), hint=f"stages: {stages}")
    feeding, anything = Feeding(table), any(r.saved_bytes for r in table.rows)
    learns = next((i for i, r in enumerate(table.rows) if r.params), len(table.rows))
    rows = tuple(_explained(table.rows[i], i, feeding, anything, i > learns) for i in chosen)
    return Explanation(table.network, row_path, rows)


def _under(path: str, label: str) -> bool:
    return not label or path == label or path.startswith(f"{label}.")


def _labels(table: Table) -> set[str]:
    parts = [r.path.split(".") for r in table.rows if r.path]
    return {".".join(p[:n]) for p in parts for n in range(1, len(p) + 1)}


def _explained(row: Row, place: int, feeding: Feeding, anything: bool, learned_before: bool) -> Explained:
    lines = [
        ("does", does(row)),
        *size_lines(row),
        *parameter_lines(row),
        *mac_lines(row),
        *backward_lines(row, learned_before),
        *activation_lines(row),
        *saved_lines(row, anything),
        *field_lines(row, place, feeding),
    ]
    return Explained(row.path, row.op, row.inputs, row.output, tuple(lines))


def _block(row: Explained) -> str:
    shapes = " and ".join(map(times, row.inputs)) or "learned tensors"
    head = Column(row.path or "(forward)"), Column(f"{row.op}, {shapes} -> {times(row.output) or 'one number'}")
    return text(head, row.lines)


__all__ = ["Explained", "Explanation", "explain"]
