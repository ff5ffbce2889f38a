"""Archives of measurements: files of one result a line, read as a stream, of which only the newest lines are kept."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from ..errors import UsageError
from ..result import Machine, Result
from .entries import Entry, place, source_of
from .reading import curves_in_order

NAMED = 3  # damaged lines that a warning names; it counts the others
What = tuple[str, str, tuple[int, int, int], int]  # source, network, input, classes


@dataclass
class Archive:
    """The newest lines of everything that was measured: by what it is, then by engine, precision and machine."""

    timed: dict[What, dict[tuple[str, ...], Result]] = field(default_factory=dict)
    judged: dict[What, Result] = field(
        default_factory=dict
    )  # the newest with an accuracy, of test images before others
    damaged: dict[str, list[tuple[int, str]]] = field(default_factory=dict)  # by file: number and fault of each line
    lines: int = 0
    _machines: dict[Machine, Machine] = field(default_factory=dict)
    _versions: dict[tuple[tuple[str, str], ...], dict[str, str]] = field(default_factory=dict)

    def add(self, r: Result) -> None:
        """Takes a result that nobody else holds."""
        # What many lines have in common is kept once: it is most of a line. The class is frozen, but this one is ours.
        object.__setattr__(r, "machine", self._machines.setdefault(r.machine, r.machine))
        object.__setattr__(r, "versions", self._versions.setdefault(tuple(r.versions.items()), r.versions))
        what = (r.source, r.network, r.input, r.classes)
        if r.timings:
            kept = self.timed.setdefault(what, {})
            key = (r.engine, r.precision, *place(r.machine))
            if key not in kept or kept[key].when <= r.when:
                kept[key] = r
        if r.accuracy and r.accuracy.images:
            old = self.judged.get(what)
            if old is None or _rank(old) <= _rank(r):
                self.judged[what] = r

    def warnings(self) -> Iterator[str]:
        for file, faults in self.damaged.items():
            told = "; ".join(f"line {number}: {fault}" for number, fault in faults[:NAMED])
            more = f"; and {len(faults) - NAMED:,} more" if len(faults) > NAMED else ""
            skipped = "1 line" if len(faults) == 1 else f"{len(faults):,} lines"
            yield f"{file}: {skipped} cannot be read and {'is' if len(faults) == 1 else 'are'} skipped ({told}{more})"


def _rank(r: Result) -> tuple[bool, str]:
    return bool(r.data and r.data.split == "test"), r.when


def files_of(source: Path) -> list[Path]:
    """The files of an archive: itself, or those of a folder that end in .jsonl, in the order of their names."""
    return [source] if source.is_file() else sorted(p for p in source.glob("*.jsonl") if p.is_file())


def read_archives(sources: Sequence[Path]) -> Archive:
    """Reads them line by line. A line that is damaged is named and skipped.

    Raises UsageError where a file cannot be opened or holds no result at all.
    """
    found = Archive()
    decode = msgspec.json.Decoder(Result).decode
    for path in dict.fromkeys(file for source in sources for file in files_of(source)):
        before = found.lines
        try:
            with path.open("rb") as file:
                for number, line in enumerate(file, 1):
                    try:
                        found.add(decode(line))
                        found.lines += 1
                    except ValueError as error:
                        if line.strip():
                            found.damaged.setdefault(str(path), []).append((number, str(error)))
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror or error}") from None
        if found.lines == before:
            raise UsageError(
                f"{path} holds no result; give an archive that `convatlas measure` writes, one JSON a line"
            )
    return found


def take(archive: Archive, sources: Iterable[str]) -> list[Result]:
    """Removes what was measured under these names, and gives its lines with times."""
    names = set(sources)
    mine = [what for what in archive.timed if what[0] in names]
    return [r for what in mine for r in archive.timed.pop(what).values()]


def archive_entry(name: str, what: What, lines: Sequence[Result], judged: Result | None, timed: Result | None) -> Entry:
    """What an archive knows of one network; `timed` is the line whose times stand beside the other entries'."""
    source, network, shape, classes = what
    others = [r for r in lines if r is not timed]
    last = timed or judged or lines[-1]
    curves = curves_in_order(lines, timed)
    used = [r for r in (judged, *others, timed) if r]
    return Entry(
        name=name,
        folder=source or network,
        network=network,
        input=shape,
        classes=(),
        params=last.params,
        macs=last.macs,
        weights_bytes=next((r.weights_bytes for r in reversed(used) if r.weights_bytes), 0),
        timings=curves[0].timings if curves else (),
        machine=timed.machine if timed else None,
        sources=tuple(map(source_of, {id(r): r for r in used}.values())),
        mark="measurement",
        curves=curves,
        class_count=classes,
        accuracy=judged.accuracy if judged else None,
        data=judged.data if judged else None,
        **NO_TRAINING,
    )


# An entry that no training stands behind.
NO_TRAINING: dict[str, Any] = {
    "recipe": "",
    "recipe_fields": {},
    "epochs": 0,
    "seconds": 0,
    "source": "",
    "split_rule": "",
    "curve": (),
    "unreadable": 0,
}
