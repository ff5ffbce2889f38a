"""What the page says of each run: facts, recipe, commands, and what it answered."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .. import units
from ..compare import Entry
from ..compare.entries import interval, machine
from ..pages import legible, legible_text
from .answered import Answered, Confusion, Mistake, read_answered
from .pictures import Album, Picture

MARKS = {"run": "trained", "measurement": "measured", "catalogue": "catalogue", "published": "published"}


@dataclass(frozen=True)
class Told:
    """One run as the page shows it, every text legible."""

    run: Entry
    mark: str
    facts: list[tuple[str, str]]
    recipe: list[tuple[str, str, bool]]
    commands: str
    answered: Answered | None
    confusion: Confusion | None
    worst: list[tuple[Mistake, str, Picture | None]]  # with the name that is shown


def told(entry: Entry, album: Album) -> Told:
    """`entry` as it was read, since its folder is opened by name."""
    e = legible(entry)
    answered = read_answered(Path(entry.folder) / "answers.csv") if entry.mark == "run" and entry.folder else None
    worst: list[tuple[Mistake, str, Picture | None]] = []
    confusion = None
    if answered:
        confusion = answered.confusion(entry.classes)
        confusion = legible(confusion)
        for m in answered.worst:
            shown = legible(m)
            worst.append((shown, _short(shown.image), album.picture(entry.folder, m.image, m.label)))
    return Told(e, MARKS[e.mark], _facts(e, answered), _recipe(e), commands(e), answered, confusion, worst)


def _short(image: str) -> str:
    """The last two parts of a file's path, which tell it apart among the others."""
    return "/".join(image.split("/")[-2:])


def _facts(e: Entry, answered: Answered | None) -> list[tuple[str, str]]:
    classes = len(e.classes) or e.class_count
    facts = [("Network", f"{e.network}, input {units.shape(e.input)}, {classes or '?'} classes")]
    if e.source:
        facts.append(("Data", e.source))
    if e.split_rule:
        facts.append(("Splits", e.split_rule))
    if e.accuracy and e.data:
        of = units.of(e.accuracy.correct, e.accuracy.images)
        facts.append(("Accuracy", f"{of}, 95 % interval {interval(e.accuracy)}"))
        digest = f", digest {e.data.digest[:12]}" if e.data.digest else ""
        facts.append(("Measured on", f"{e.data.name}, {e.data.split} split, {e.data.images:,} images{digest}"))
        if e.accuracy.unreadable or e.unreadable:
            told = f"{e.accuracy.unreadable:,} in that split, {e.unreadable:,} met in training"
            facts.append(("Unreadable files", told))
    if e.printed_top1 is not None:
        facts.append(("Printed accuracy", units.percent(e.printed_top1)))
    if e.protocol:
        facts.append(("Protocol", e.protocol))
    if answered and answered.bins:
        facts.append(("Calibration error", f"{units.percent(answered.calibration_error)}, expected, 15 bins"))
    facts.append(("Parameters", units.exact(e.params)))
    facts.append(("MACs of one image", units.exact(e.macs)))
    if e.weights_bytes:
        facts.append(("Weights", f"{units.exact(e.weights_bytes)} bytes"))
    if e.seconds:
        facts.append(("Trained", f"{e.epochs:.4g} epochs in {units.seconds(e.seconds)}"))
    if e.recipe:
        facts.append(("Recipe", e.recipe))
    facts += _measured(e)
    return facts


def _measured(e: Entry) -> Iterable[tuple[str, str]]:
    """Where times were taken, and what the first engine's curve says of memory, energy and loading."""
    if not e.timings:
        return
    yield "Timed on", machine(e)
    first = e.measured[0] if e.measured else None
    if first is None:
        return
    yield "Engine", f"{first.engine}, {first.precision}"
    peaks = [(t.batch, t.peak_bytes) for t in first.timings if t.peak_bytes]
    if peaks:
        batch, peak = peaks[0]
        yield "Peak memory", f"{units.size(peak)} at batch {batch}, the whole process"
    joules = [(t.batch, t.joules) for t in first.timings if t.joules is not None]
    if joules:
        yield "Energy", f"{joules[0][1]:.3g} J at batch {joules[0][0]}, above idle"
    elif first.energy:
        yield "Energy", first.energy
    if first.loading:
        yield "Loading", f"{units.milliseconds(first.loading.median_ms)} an image, {first.loading.of}"


def _recipe(e: Entry) -> list[tuple[str, str, bool]]:
    """Field, value and whether the paper leaves it open, of the recipe as it was used."""
    assumed = e.recipe_fields.get("assumed") or ()
    fields = ((name, _plain(value)) for name, value in e.recipe_fields.items() if name != "assumed")
    return [(name.replace("_", " "), value, name in assumed) for name, value in fields if value]


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "" if value is None else str(value)


def commands(e: Entry) -> str:
    return "\n".join(dict.fromkeys(s.command for s in e.sources))


def methods(entries: Iterable[Entry]) -> list[tuple[str, str]]:
    """What was measured and how, each said once."""
    return sorted({(s.kind.capitalize(), s.method) for e in entries for s in e.sources if s.method})


def environment(entries: Sequence[Entry]) -> list[tuple[str, str, str]]:
    """Machine, versions, and what was done there, each pair once."""
    found: dict[tuple[str, str], dict[str, None]] = {}
    for e in entries:
        for s in e.sources:
            m = s.machine
            where = f"{m.threads} threads" if m.device == "cpu" and m.threads else m.device
            place = f"{m.processor}, {m.cores} cores, {units.size(m.memory_bytes)}, {m.system}, {where}"
            versions = ", ".join(f"{name} {version}" for name, version in s.versions.items())
            found.setdefault((place, versions), {})[f"{e.name} ({s.kind})"] = None
    return [(place, versions, legible_text(", ".join(done))) for (place, versions), done in found.items()]
