"""The networks of Canziani et al.'s charts: accuracies as printed, and times as this machine measured them."""

import shlex
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..catalogue import catalogue
from ..compare import Comparison, Entry
from ..compare.archive import archive_entry, read_archives
from ..compare.entries import place
from ..compare.known import catalogue_entry
from ..paper import Published
from ..result import Result, this_machine
from .words import Say

CODE, CHART = "szagoruyko/imagenet-validation.torch", "Figure 1"
LABELS = {  # the paper's names of the catalogue's networks, in the order of its bars; its ENet was never published
    "alexnet": "AlexNet",
    "alexnet_bn": "BN-AlexNet",
    "nin_bn": "BN-NIN",
    "googlenet": "GoogLeNet",
    "resnet18": "ResNet-18",
    "vgg16": "VGG-16",
    "vgg19": "VGG-19",
    "resnet34": "ResNet-34",
    "resnet50_v15": "ResNet-50",
    "resnet101_v15": "ResNet-101",
    "resnet152_v15": "ResNet-152",
    "inception_v3": "Inception-v3",
    "inception_v4": "Inception-v4",
}
BATCHES = "1,2,4,8,16"


@dataclass(frozen=True)
class Measured:
    """What the archive knows of these networks on this machine, by one engine and precision."""

    entries: tuple[Entry, ...]
    results: tuple[Result, ...]
    warnings: tuple[str, ...]
    elsewhere: int  # lines of these networks from other machines

    @property
    def comparison(self) -> Comparison:
        return Comparison(self.entries, self.warnings, ())

    @property
    def missing(self) -> list[str]:
        """The networks without a measurement, by the catalogue's names."""
        return [name for name in LABELS if name not in {e.network for e in self.entries}]


def measured(archive: Path) -> Measured:
    """Reads an archive; one that is not there has measured nothing.

    Where several engines, precisions or devices were measured, those that most of the networks have count, then the
    newest. Raises UsageError where the archive cannot be read.
    """
    found = read_archives([archive])
    here = this_machine()
    groups: dict[tuple[str, ...], dict[str, Result]] = defaultdict(dict)
    elsewhere = 0
    for (source, network, shape, classes), lines in found.timed.items():
        name = source or network
        entry = catalogue().networks.get(name)
        if name not in LABELS or not entry or (network, shape, classes) != (name, entry.input, entry.classes):
            continue
        for r in lines.values():
            if (r.machine.processor, r.machine.system) == (here.processor, here.system):
                groups[r.engine, r.precision, *place(r.machine)][name] = r
            else:
                elsewhere += 1
    best = max(groups.values(), key=lambda g: (len(g), max(r.when for r in g.values())), default={})
    results = [best[name] for name in LABELS if name in best]
    entries = [
        archive_entry(LABELS[r.network], (r.network, r.network, r.input, r.classes), [r], None, r) for r in results
    ]
    return Measured(tuple(entries), tuple(results), tuple(found.warnings()), elsewhere)


def printed(name: str) -> tuple[Published, Published]:
    """The accuracy to take, by the code where it printed one, and that of the chart."""
    figures = [p for p in catalogue().printed(name) if p.metric == "top1_accuracy"]
    chart = next(p for p in figures if p.source == CHART)
    return next((p for p in figures if p.source == CODE), chart), chart


def protocol(name: str, say: Say) -> str:
    """Where the accuracy to take is printed, and how it was taken."""
    p, _ = printed(name)
    return say(": ").join((say(p.source), say(p.protocol)))


def published(say: Say) -> Comparison:
    """The networks with their printed accuracies, as they stand on the lecture's charts."""
    entries = []
    for name, label in LABELS.items():
        p, _ = printed(name)
        entry = catalogue_entry(name)
        entries.append(
            replace(
                entry, name=label, mark="published", protocol=protocol(name, say), printed_top1=round(p.value / 100, 6)
            )
        )
    return Comparison(tuple(entries), (), ())


def joined(times: Sequence[Entry], say: Say) -> Comparison:
    """Printed accuracies with the times of this machine, for those networks that have both."""
    timed = {e.network: e for e in times}
    both = [
        replace(e, timings=timed[e.network].timings, machine=timed[e.network].machine, curves=timed[e.network].curves)
        for e in published(say).entries
        if e.network in timed
    ]
    return Comparison(tuple(both), (), ())


def command(names: Sequence[str], archive: Path) -> str:
    """What measures these networks into the archive."""
    folder = archive.parent if archive.suffix == ".jsonl" else archive
    where = shlex.quote(str(folder))
    return f"convatlas measure {' '.join(names)} --batch {BATCHES} --engines torch --archive {where}"
