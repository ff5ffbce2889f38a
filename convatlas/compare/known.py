"""Networks of the catalogue and what was printed about their accuracy, as entries of a comparison; imports no torch."""

from collections.abc import Iterator
from decimal import Decimal

from ..catalogue import Entry as Network
from ..catalogue import catalogue
from ..paper import Paper, Published
from .archive import NO_TRAINING
from .entries import Entry, Mark

PUBLISHED = "published"
METRICS = ("top1_accuracy", "top1_error")
PLACES = ("Table", "Figure", "section", "abstract")
FLOAT32 = 4  # bytes of a parameter


def catalogue_entry(name: str) -> Entry:
    """Raises UnknownName with near names."""
    network = catalogue().entry(name)
    return _entry(network, name, "catalogue", "", None)


def published_entries(name: str = "") -> Iterator[Entry]:
    """Every top-1 accuracy that was printed of one network; of all networks the first one each, as `list` shows.

    Raises UnknownName with near names.
    """
    known = catalogue()
    for network in [known.entry(name)] if name else known.networks.values():
        keys = [network.paper, *(key for key in known.published if key != network.paper)]
        printed = [(key, p) for key in keys for p in known.published[key] if p.network == network.name]
        figures = [(key, p) for key, p in printed if p.metric in METRICS and _of_the_whole(p)]
        for key, p in figures if name else figures[:1]:
            source = p.source if key == network.paper else _of_paper(known.papers[key], p.source)
            protocol = f"{source}: {p.protocol}" if p.protocol else source
            named = f"{network.name}, {source}" if name else network.name
            yield _entry(network, named, "published", protocol, _top1(p))


def _of_paper(paper: Paper, place: str) -> str:
    """A place in another paper than the network's own: "Canziani et al. 2017, Figure 1"; other sources name it."""
    if place.split()[0] not in PLACES:
        return place
    first, *others = paper.authors.split(", ")
    return f"{first.split()[-1]}{' et al.' if others else ''} {paper.year}, {place}"


def _of_the_whole(p: Published) -> bool:
    return not (p.layer or p.versus or p.differs)


def _top1(p: Published) -> float:
    """The share, exact in the printed digits."""
    percent = Decimal(p.printed) if p.metric == "top1_accuracy" else 100 - Decimal(p.printed)
    return float(percent / 100)


def _entry(network: Network, name: str, mark: Mark, protocol: str, top1: float | None) -> Entry:
    return Entry(
        name=name,
        folder=network.name,
        network=network.name,
        input=network.input,
        classes=(),
        params=network.params,
        macs=network.macs,
        weights_bytes=FLOAT32 * network.params,
        accuracy=None,
        data=None,
        timings=(),
        machine=None,
        sources=(),
        mark=mark,
        protocol=protocol,
        printed_top1=top1,
        class_count=network.classes,
        **NO_TRAINING,
    )
