"""Runs, measurements, catalogue networks and published figures side by side.

Imports no torch. Figures stand beside each other only where they mean the same: accuracies of the same images, times
of the same machine and engine. Anything else gets a warning.
"""

import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from .. import units
from ..errors import UsageError
from ..result import Result
from ..uncollected import uncollected
from .archive import Archive, archive_entry, read_archives, take
from .comparison import Comparison
from .difference import differences
from .entries import (
    FORWARD_TIME,
    Entry,
    Missing,
    each,
    engine,
    images_clash,
    interval,
    machine,
    machines,
    place,
)
from .known import catalogue_entry, published_entries
from .reading import Key, Run, judged, newest, read_run, run_entry
from .sources import Sources, run_names, sort_out, spelled

__all__ = ["compare", "interval", "machine"]

WIDE = 1.5  # third quartile over median, from which times are doubtful
NAMED = 5  # entries of an archive that a warning names; it counts the others


def compare(sources: Sequence[str | Path]) -> Comparison:
    """The newest figures of each source: run folders, archives, catalogue networks, `published`, `published:NAME`.

    An archive is a file of one result a line, or a folder of such files; lines that measured one of the run folders
    count as that run's. Of times and accuracies those count that most entries share: the same machine, engine,
    precision and images. Where two runs or more have answers to the same images, the best is set against each other.

    Raises UsageError for a source that is not there, BadCheckpoint for a run without results or with damaged ones, and
    UnknownName for a network.
    """
    if not sources:
        raise UsageError("no run to compare; name one run folder or more, for example runs/*")
    with uncollected():
        return _compare(sort_out(sources))


def _compare(given: Sources) -> Comparison:
    runs = list(map(read_run, run_names(given.runs), given.runs, (spelled(p) for p in given.runs)))
    archive = read_archives(given.archives)
    runs = [_joined(run, archive) for run in runs]
    whats = list({**archive.timed, **archive.judged})
    lines = [list(archive.timed.get(what, {}).values()) for what in whats]
    timed = _timed([run.measured for run in runs], lines)
    found = _agreed([judged(run.results) for run in runs], _images)
    pairs = list(map(run_entry, runs, found, timed))
    entries = [entry for entry, _ in pairs]
    faults = [f"{entry.name}: {fault}" for entry, fault in pairs if fault]
    for what, kept, at in zip(whats, lines, timed[len(runs) :], strict=True):
        entries.append(archive_entry(what[0] or what[1], what, kept, archive.judged.get(what), at))
    entries += map(catalogue_entry, given.networks)
    entries += (entry for name in given.published for entry in published_entries(name))
    entries = _told_apart(entries)
    missing = tuple(m for e in entries if e.mark == "run" for m in _missing(e))
    warnings = (*_warnings(entries), *faults, *archive.warnings())
    return Comparison(tuple(entries), warnings, missing, differences(entries))


def _joined(run: Run, archive: Archive) -> Run:
    """The run with the archive's measurements of its folder, where they are of the same network."""
    folder = run.folder.resolve()
    names = {what[0] for what in archive.timed if what[0].rstrip("/").rpartition("/")[2] == folder.name}
    params = {r.params for r in run.results}
    mine = [r for r in take(archive, (n for n in names if Path(n).resolve() == folder)) if r.params in params]
    return replace(run, measured=newest([*run.measured, *mine], lambda r: (*_way(r), *_place(r))))


def _images(r: Result) -> Key:
    return (r.data.digest, r.data.split) if r.data else ()


def _place(r: Result) -> Key:
    return place(r.machine)


def _way(r: Result) -> Key:
    return r.engine, r.precision


def _agreed(
    groups: Sequence[Sequence[Result]], key: Callable[[Result], Key], first: Key = ("",)
) -> list[Result | None]:
    """Each group's newest result under the key that most groups share, else its newest.

    Of keys that as many share, `first` counts first and then the one with the newest result.
    """
    shared = Counter(k for group in groups for k in {key(r) for r in group})
    latest: dict[Key, str] = {}
    for group in groups:
        for r in group:
            latest[key(r)] = max(latest.get(key(r), ""), r.when)
    best = max(shared, key=lambda k: (shared[k], k == first, latest[k]), default=None)
    return [next((r for r in reversed(group) if key(r) == best), group[-1] if group else None) for group in groups]


def _timed(runs: Sequence[Sequence[Result]], lines: Sequence[Sequence[Result]]) -> list[Result | None]:
    """The line of each run and each archived network whose times are shown: one machine, then one engine and precision.

    What the runs share decides, since only they can be chosen.
    """
    groups = [*runs, *(sorted(group, key=lambda r: r.when) for group in lines)]
    leading = [g for g in runs if g] or groups
    agreed = Counter(filter(None, (r and _place(r) for r in _agreed(leading, _place))))
    common = max(agreed, key=lambda k: agreed[k], default=None)
    here = []
    for group in groups:
        places = [_place(r) for r in group]
        at = common if common in places or not group else places[-1]
        here.append([r for r, place_of in zip(group, places, strict=True) if place_of == at])
    return _agreed(here, _way, ("torch", "fp32"))


def _told_apart(entries: Sequence[Entry]) -> list[Entry]:
    """With names that no two share: by the mark, then by the input and the classes, then by number."""
    names = [e.name for e in entries]
    ways: tuple[Callable[[Entry], str], ...] = (_marked, _at, _of_classes)
    for more in ways:
        seen = Counter(names)
        if len(seen) == len(names):
            break
        alike: dict[str, set[str]] = {}
        for name, e in zip(names, entries, strict=True):
            alike.setdefault(name, set()).add(more(e))
        names = [
            n + more(e) if seen[n] > 1 and len(alike[n]) > 1 and e.mark != "run" else n
            for n, e in zip(names, entries, strict=True)
        ]
    taken: set[str] = set()
    told = []
    for name, e in zip(names, entries, strict=True):
        new, number = name, 1
        while new in taken:
            number += 1
            new = f"{name}, {number}"
        taken.add(new)
        told.append(e if new == e.name else replace(e, name=new))
    return told


def _at(e: Entry) -> str:
    return f" at {units.shape(e.input)}"


def _of_classes(e: Entry) -> str:
    return f", {e.class_count} classes"


def _marked(e: Entry) -> str:
    return f" ({e.mark})"


def _missing(e: Entry) -> Iterable[Missing]:
    folder = shlex.quote(e.folder)
    if e.accuracy is None or e.data is None or e.data.split != "test":
        yield Missing(e.name, "test accuracy", f"convatlas evaluate {folder} {shlex.quote(e.source) or 'DATA'}")
    if not e.timings:
        yield Missing(e.name, FORWARD_TIME, f"convatlas measure {folder}")


def _warnings(entries: Sequence[Entry]) -> Iterable[str]:
    if clash := images_clash(entries):
        yield clash
    timed = [e for e in entries if e.timings]
    if len(set(machines(entries))) > 1:
        yield f"times are not comparable: {each((e.name, machine(e)) for e in timed)}"
    elif len({engine(e) for e in timed}) > 1:
        yield f"times are of different engines: {each((e.name, engine(e)) for e in timed)}"
    yield from _doubtful(timed)
    for e in entries:
        if e.data and e.data.split == "validation":
            yield f"{e.name}: its accuracy is of validation images, which also chose its weights, so it flatters"
    unreadable = [(e.name, e.accuracy.unreadable) for e in entries if e.accuracy and e.accuracy.unreadable]
    if unreadable:
        yield f"unreadable files are in no accuracy; {each((n, _files(k)) for n, k in unreadable)}"
    if len({e.protocol for e in entries if e.printed_top1 is not None}) > 1:
        yield "published accuracies were taken in different ways; compare only those of the same protocol"


def _doubtful(timed: Sequence[Entry]) -> Iterator[str]:
    wide = []
    for e in timed:
        worst = max(e.timings, key=lambda t: t.high_ms / t.median_ms)
        if worst.high_ms > WIDE * worst.median_ms:
            wide.append((e.name, worst))
    for name, t in wide[:NAMED]:
        ends = f"{units.milliseconds(t.low_ms)} to {units.milliseconds(t.high_ms)} at batch {t.batch}"
        yield f"{name}: its times spread widely, quartiles {ends}; measure again when nothing else runs"
    if len(wide) > NAMED:
        yield f"the times of {len(wide) - NAMED:,} more spread widely too"


def _files(n: int) -> str:
    return "1 file" if n == 1 else f"{n:,} files"
