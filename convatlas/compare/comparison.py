"""Entries side by side, as tables, text, Markdown and JSON."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .. import units
from ..layout import Cell, Column, markdown, text
from ..record import to_json
from .difference import Difference, difference_table
from .entries import Entry, Missing, engine, images_clash, interval, machines

SHOWN = 20  # lines of what is missing in a text; all are in the JSON


@dataclass(frozen=True)
class Comparison:
    entries: tuple[Entry, ...]
    warnings: tuple[str, ...]
    missing: tuple[Missing, ...]
    differences: tuple[Difference, ...] = ()  # the most accurate run against each other, paired on the same images

    @property
    def batches(self) -> tuple[int, ...]:
        """The batch sizes at which every timed run was timed."""
        timed = [{t.batch for t in e.timings} for e in self.entries if e.timings]
        return tuple(sorted(set.intersection(*timed))) if timed else ()

    @property
    def comparable(self) -> bool:
        """Whether the accuracies are of the same images, so that the runs can be ranked; there must be a run."""
        return any(e.mark == "run" or e.accuracy for e in self.entries) and not images_clash(self.entries)

    def as_json(self) -> str:
        return to_json(self)

    def as_text(self) -> str:
        return self._written(text)

    def as_markdown(self) -> str:
        return self._written(markdown)

    def _written(self, way: Callable[[list[Column], list[list[Cell]]], str]) -> str:
        blocks = [way(*self.table())]
        if any(len(e.measured) > 1 for e in self.entries):
            blocks.append(way(*self.engine_table()))
        if len(self.differences) > 1:
            best, images = self.differences[0].a, self.differences[0].images
            blocks.append(f"Against {best}, paired on the same {images:,} images:")
            blocks.append(way(*difference_table(self.differences)))
        if len(self.differences) == 1:
            blocks.append(self.differences[0].as_text())
        return "\n\n".join((*blocks, *self._notes()))

    def table(self) -> tuple[list[Column], list[list[Cell]]]:
        """Columns and rows, a row an entry; times at the smallest and the largest batch size that all timed share.

        Marks, engines and protocols have a column where they differ or are there.
        """
        shown = sorted({self.batches[0], self.batches[-1]}) if self.batches else []
        columns = [Column("run"), *([Column("mark")] if self._marked else []), Column("network"), Column("accuracy")]
        columns.append(Column("95 % interval"))
        columns += [Column(c, True) for c in ("parameters", "MACs", "weights", *(f"time, batch {b}" for b in shown))]
        columns += [Column("engine")] if self._engines else []
        columns.append(Column("training time", True))
        columns += [Column("published where and how")] if self._protocols else []
        return columns, [self._row(e, shown) for e in self.entries]

    @property
    def _marked(self) -> bool:
        return len({e.mark for e in self.entries}) > 1

    @property
    def _engines(self) -> bool:
        return bool({engine(e) for e in self.entries} - {"", "torch, fp32"})

    @property
    def _protocols(self) -> bool:
        return any(e.protocol for e in self.entries)

    def _row(self, e: Entry, batches: Sequence[int]) -> list[Cell]:
        row: list[Cell] = [e.name, *([e.mark] if self._marked else []), e.network, _accuracy(e)]
        row.append(interval(e.accuracy) if e.accuracy else "—")
        row += [units.count(e.params), units.count(e.macs), units.size(e.weights_bytes) if e.weights_bytes else "—"]
        row += [units.milliseconds(t.median_ms) if (t := e.timing(b)) else "—" for b in batches]
        row += [engine(e) or "—"] if self._engines else []
        row.append(units.seconds(e.seconds) if e.seconds else "—")
        return row + ([e.protocol or "—"] if self._protocols else [])

    def engine_table(self) -> tuple[list[Column], list[list[Cell]]]:
        """A row an engine and precision of each timed entry, on the machine that its times are of.

        Memory and energy have columns where they were measured.
        """
        shown = sorted({self.batches[0], self.batches[-1]}) if self.batches else []
        columns = [Column("run"), Column("engine"), Column("precision")]
        columns += [Column(f"{what}, batch {b}", True) for b in shown for what in ("time", "memory", "energy")]
        rows: list[list[Cell]] = []
        for e in self.entries:
            for c in e.measured:
                row: list[Cell] = [e.name, c.engine, c.precision]
                for b in shown:
                    t = c.timing(b)
                    row.append(units.milliseconds(t.median_ms) if t else "—")
                    row.append(units.size(t.peak_bytes) if t and t.peak_bytes else "—")
                    row.append(units.count(t.joules, "J") if t and t.joules is not None else "—")
                rows.append(row)
        there = [i for i, c in enumerate(columns) if not c.number or any(row[i] != "—" for row in rows)]
        return [columns[i] for i in there], [[row[i] for i in there] for row in rows]

    def _notes(self) -> list[str]:
        notes = [f"Times: median forward pass, {machine}." for machine in dict.fromkeys(machines(self.entries))]
        notes += [f"Warning: {warning}." for warning in self.warnings]
        return [*notes, missing_text(self.missing)] if self.missing else notes


def missing_text(missing: Sequence[Missing]) -> str:
    lines = [f"  {m.run}: {m.what}; `{m.command}`" for m in missing[:SHOWN]]
    more = [f"  and {len(missing) - SHOWN:,} more; --json names all"] if len(missing) > SHOWN else []
    return "\n".join(("Not measured:", *lines, *more))


def _accuracy(e: Entry) -> str:
    if e.accuracy:
        return units.of(e.accuracy.correct, e.accuracy.images)
    return "—" if e.printed_top1 is None else f"{100 * e.printed_top1:.6g} % printed"
