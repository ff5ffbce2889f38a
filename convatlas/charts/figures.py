"""The figures that the charts draw, taken out of a comparison's entries, and the words that go with them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .. import units
from ..compare import Curve, Entry, interval
from ..layout import Cell, Column
from ..result import Machine, Timing
from .look import Look, shown_name

FULL = "fp32"  # the precision that the accuracies are of
NONE = "—"
KINDS = ("run", "measurement", "catalogue", "published")


@dataclass(frozen=True)
class Known:
    """An accuracy, as a share of one: measured with its interval, or published with its protocol."""

    entry: Entry
    top1: float
    low: float | None = None  # Wilson's 95 % interval; a published figure has none
    high: float | None = None
    protocol: str = ""

    @property
    def published(self) -> bool:
        return self.low is None


def accuracies(entries: Iterable[Entry]) -> list[Known]:
    """The accuracy of each entry that has one, a measured one before a published one."""
    found = []
    for e in entries:
        if e.accuracy and e.accuracy.images:
            found.append(Known(e, e.accuracy.top1, *e.accuracy.interval))
        elif e.printed_top1 is not None:
            found.append(Known(e, e.printed_top1, protocol=e.protocol))
    return found


def timed_accuracies(entries: Sequence[Entry], batch: int) -> list[tuple[Known, Curve, Timing]]:
    """Accuracies with the fastest forward time at that batch size.

    A network that was measured without an accuracy takes the published one of the same network at the same input, and
    counts as published.
    """
    known = accuracies(entries)
    have = {k.entry.name for k in known}
    for e in entries:
        if e.mark == "measurement" and e.name not in have:
            same = (k for k in known if k.published and _same_network(k.entry, e))
            known += [replace(k, entry=replace(e, mark="published")) for k in same][:1]
    timed = ((k, fastest(k.entry, batch)) for k in known)
    return [(k, *found) for k, found in timed if found]


def _same_network(a: Entry, b: Entry) -> bool:
    return (a.network, a.input, a.params) == (b.network, b.input, b.params)


def fastest(e: Entry, batch: int) -> tuple[Curve, Timing] | None:
    """The engine with the lowest median at that batch size, of those at full precision where there is one.

    Lower precisions answer otherwise than the network that the accuracy is of.
    """
    timed = [(c, t) for c in e.measured for t in c.timings if t.batch == batch]
    full = [(c, t) for c, t in timed if c.precision == FULL]
    return min(full or timed, key=lambda pair: pair[1].median_ms, default=None)


def engine(c: Curve) -> str:
    """ "openvino", or "openvino bf16" where the precision is not the full one."""
    return shown_name(c.engine if c.precision == FULL else f"{c.engine} {c.precision}")


def counter(c: Curve) -> str:
    """By what the energy was counted."""
    return _seen(c.energy)


def machine(m: Machine, look: Look) -> str:
    if m.device != "cpu":
        return shown_name(f"{m.processor}, {m.device}")
    return (
        f"{shown_name(m.processor)}, {look.say('1 thread') if m.threads == 1 else look.say('{n} threads', n=m.threads)}"
    )


def kind(e: Entry, look: Look) -> str:
    words = {
        "run": look.say("run"),
        "measurement": look.say("measured"),
        "catalogue": look.say("catalogue, no accuracy known"),
        "published": look.say("published"),
    }
    return words[e.mark]


def percent(k: Known) -> str:
    """ "354 of 360 (98.3 %)" of a measured accuracy, "69.3 %" of a published one."""
    a = k.entry.accuracy
    return units.of(a.correct, a.images) if a and not k.published else units.percent(k.top1)


def _seen(text: str) -> str:
    return shown_name(text) if text else NONE


def range_of(k: Known) -> str:
    return interval(k.entry.accuracy) if k.entry.accuracy and not k.published else NONE


def accuracy_value(k: Known, look: Look) -> dict[str, Any]:
    """What a mark of an accuracy carries: in per cent, with the words of its tooltip."""
    e = k.entry
    ends = {} if k.low is None or k.high is None else {"low": 100 * k.low, "high": 100 * k.high}
    return {
        "run": look.name(e),
        "network": shown_name(e.network),
        "kind": kind(e, look),
        "accuracy": 100 * k.top1,
        **ends,
        "told": percent(k),
        "interval": range_of(k),
        "protocol": _seen(k.protocol),
        "macs": e.macs,
        "parameters": e.params,
    }


def accuracy_fields(look: Look, known: Sequence[Known]) -> dict[str, tuple[str, str]]:
    """The tooltip of an accuracy; the protocol only where one of them was published."""
    fields = {
        "run": (look.say("Run"), ""),
        "network": (look.say("Network"), ""),
        "kind": (look.say("Kind"), ""),
        "told": (look.say("Accuracy"), ""),
        "interval": (look.say("95 % interval"), ""),
        "protocol": (look.say("Protocol"), ""),
        "macs": (look.say("MACs"), ","),
        "parameters": (look.say("Parameters"), ","),
    }
    return {k: v for k, v in fields.items() if k != "protocol" or any(k.published for k in known)}


def accuracy_cells(k: Known, look: Look) -> list[Cell]:
    """The beginning of an accuracy's row: run, kind, accuracy, interval, protocol."""
    return [look.name(k.entry), kind(k.entry, look), percent(k), range_of(k), _seen(k.protocol)]


def timing_fields(look: Look) -> dict[str, tuple[str, str]]:
    return {
        "run": (look.say("Run"), ""),
        "engine": (look.say("Engine"), ""),
        "batch": (look.say("Batch"), "d"),
        "ms": (look.say("Median, ms"), ".3r"),
        "first": (look.say("First quartile, ms"), ".3r"),
        "third": (look.say("Third quartile, ms"), ".3r"),
        "repeats": (look.say("Calls"), ","),
        "machine": (look.say("Machine"), ""),
    }


def timing_value(e: Entry, c: Curve, t: Timing, look: Look) -> dict[str, Any]:
    return {
        "run": look.name(e),
        "engine": engine(c),
        "batch": t.batch,
        "ms": t.median_ms,
        "first": t.low_ms,
        "third": t.high_ms,
        "repeats": t.repeats,
        "machine": machine(c.machine, look),
    }


def quartiles(t: Timing, look: Look) -> str:
    return look.say("{low} to {high}", low=units.milliseconds(t.low_ms), high=units.milliseconds(t.high_ms))


def timing_columns(look: Look) -> list[Column]:
    return [
        Column(look.say("engine")),
        Column(look.say("batch"), True),
        Column(look.say("median"), True),
        Column(look.say("quartiles"), True),
        Column(look.say("images/s"), True),
        Column(look.say("calls"), True),
        Column(look.say("peak memory"), True),
        Column(look.say("machine")),
    ]


def timing_cells(c: Curve, t: Timing, look: Look) -> list[Cell]:
    """The end of a timing's row, as `timing_columns` heads it."""
    return [
        engine(c),
        t.batch,
        units.milliseconds(t.median_ms),
        quartiles(t, look),
        units.count(t.images_per_second),
        t.repeats,
        units.size(t.peak_bytes) if t.peak_bytes else NONE,
        machine(c.machine, look),
    ]


def batch_of(n: int, look: Look) -> str:
    return look.say("one image") if n == 1 else look.say("{n} images", n=n)
