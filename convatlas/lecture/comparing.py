"""The lecture's last charts, of Canziani et al.: accuracies as printed, and what this machine measured of the rest."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from .. import charts, units
from ..catalogue import catalogue
from ..charts import Chart
from ..layout import Cell, Column
from ..result import Result
from .measured import CHART, LABELS, Measured, command, joined, measured, printed, protocol, published
from .networks import Found
from .section import MEASURED, UNMEASURABLE, UNMEASURED, Grid, Section
from .words import Say

OPERATIONS = 2  # of a multiply-add, as the paper's counter has it


def compared(found: Found, archive: Path, language: str, say: Say) -> list[Section]:
    """Accuracy, operations, forward time, memory and power. Raises UsageError for an archive that cannot be read."""
    timed = measured(archive)
    return [
        _accuracy(found, language, say),
        *_costs(found, timed, archive, language, say),
    ]


def _accuracy(found: Found, language: str, say: Say) -> Section:
    known = published(say)
    return Section(
        "accuracy",
        say("Accuracy, operations and parameters"),
        say(
            "Two charts of Canziani, Paszke and Culurciello (2017): top-1 accuracy of fourteen networks, and accuracy "
            "against operations with the parameters as bubbles."
        ),
        say(
            "The accuracies are the printed ones, by one central crop; multiply-adds and parameters are counted here. "
            "The chart’s axis counts two operations a multiply-add, so that VGG-16 stands at {ops} G.",
            ops=f"{OPERATIONS * catalogue().entry('vgg16').macs / 1e9:.1f}",
        ),
        found["accuracy"],
        _drawn(
            charts.accuracy_bars(known, language),
            charts.accuracy_against_macs(known, language),
            charts.accuracy_per_parameter(known, language),
        ),
        (_printed(say),),
        notes=(
            say(
                "ENet, the fourteenth, is left out: the layers of its ImageNet network were never published, and the "
                "catalogue’s `enet` is the encoder of the segmentation network."
            ),
            say(
                "ResNet-50, 101 and 152 are those of fb.resnet.torch, with the stride on the 3x3: `resnet50_v15` and "
                "its like in the catalogue."
            ),
        ),
    )


def _printed(say: Say) -> Grid:
    """Every network with its printed accuracy and how it was taken, and its counts."""
    columns = [Column("network"), Column("in the catalogue")]
    columns += [Column(n, True) for n in ("top-1 accuracy, %", "read off the chart", "G-Ops", "MACs", "parameters")]
    rows: list[list[Cell]] = []
    for name, label in LABELS.items():
        p, chart = printed(name)
        e = catalogue().entry(name)
        exact = p.printed if p.source != CHART else None
        rows.append([label, name, exact, chart.printed, f"{OPERATIONS * e.macs / 1e9:.2f}", e.macs, e.params])
    return Grid(
        "Single central crop, top-1", [*columns, Column("protocol")], [[*r, protocol(str(r[1]), say)] for r in rows]
    )


def _costs(found: Found, timed: Measured, archive: Path, language: str, say: Say) -> Iterable[Section]:
    known = timed.comparison
    where = _where(timed, say)
    missing = command(timed.missing, archive) if timed.missing else ""
    notes = (*where, *(say("Warning: {warning}.", warning=w) for w in timed.warnings))
    if timed.entries and timed.missing:
        names = ", ".join(LABELS[name] for name in timed.missing)
        notes += (say("Not measured yet: {names}. The command measures them.", names=names),)
    unmeasured = say("Not measured here yet; the command below does it, and the page then has the charts.")
    times: tuple[Chart, ...] = ()
    if timed.entries:
        times = _drawn(
            charts.time_against_batch(known, language),
            charts.macs_against_time(known, language, 1),
            charts.macs_against_time(known, language, 16),
            charts.accuracy_against_time(joined(timed.entries, say), language),
        )
    yield Section(
        "time",
        say("Forward time"),
        say("A chart: milliseconds of a forward pass against batch size on a Jetson TX1; VGG takes 200 ms."),
        _fastest(timed, say) or unmeasured,
        found["time"],
        times,
        notes=notes,
        command=missing,
        standing=MEASURED if times else UNMEASURED,
    )
    if not times:
        unmeasured = say("Not measured here yet; the command under “Forward time” does it.")
    again = command(list(LABELS), archive) if times else ""
    memory = _drawn(charts.memory_against_batch(known, language), charts.memory_against_parameters(known, language))
    yield Section(
        "memory",
        say("Memory"),
        say("Not on the lecture’s slides; the same paper has memory against batch size and against parameters."),
        say("Peak memory of a process of its own for each batch size.") if memory else unmeasured,
        found.get("memory", ()),
        memory,
        notes=where if memory else (),
        command="" if memory else again,
        standing=MEASURED if memory else UNMEASURED,
    )
    energy = _drawn(charts.energy_against_batch(known, language))
    reason = next((r.energy for r in timed.results if r.energy), "")
    told = say("Not measurable here: {reason}.", reason=reason.rstrip(".")) if reason else unmeasured
    yield Section(
        "power",
        say("Power"),
        say("A chart: the power that each network draws; about the same for all."),
        say("Energy above idle by a counter, for each batch size.") if energy else told,
        found["power"],
        energy,
        notes=where if energy else (),
        command="" if energy or reason else again,
        standing=MEASURED if energy else UNMEASURABLE if reason else UNMEASURED,
    )


def _drawn(*found: Chart | None) -> tuple[Chart, ...]:
    return tuple(chart for chart in found if chart is not None)


def _where(timed: Measured, say: Say) -> tuple[str, ...]:
    """Machine, engine and time of the measurements; and that others are left out."""
    notes = []
    if timed.entries:
        r = timed.results[0]
        notes.append(
            say(
                "Measured on {day} on {machine}; engine {engine}, {precision}.",
                machine=_machine(r, say),
                engine=r.engine,
                precision=r.precision,
                day=_days(timed),
            )
        )
    if timed.elsewhere:
        notes.append(say("{n} measurements of other machines are left out.", n=timed.elsewhere))
    return tuple(notes)


def _machine(r: Result, say: Say) -> str:
    m = r.machine
    threads = say("1 thread") if m.threads == 1 else say("{n} threads", n=m.threads)
    return say(", ").join((m.processor, threads if m.device == "cpu" else m.device))


def _days(timed: Measured) -> str:
    days = sorted({r.when[:10] for r in timed.results})
    return days[0] if len(days) == 1 else f"{days[0]} – {days[-1]}"


def _fastest(timed: Measured, say: Say) -> str:
    """The fastest and the slowest network at the smallest batch size that all have."""
    batches = timed.comparison.batches
    if not batches:
        return ""
    times: Sequence[tuple[float, str]] = sorted(
        (t.median_ms, e.name) for e in timed.entries if (t := e.timing(batches[0]))
    )
    (low, first), (high, last) = times[0], times[-1]
    return say(
        "Median forward time at batch {batch}, from {low} ({first}) to {high} ({last}).",
        batch=batches[0],
        low=units.milliseconds(low),
        first=first,
        high=units.milliseconds(high),
        last=last,
    )
