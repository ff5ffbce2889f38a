"""Which networks of the catalogue to try on a data set, before any training: predicted cost against a time.

What is measured is this machine (`prediction`); what was published is each network's accuracy; everything else is one
of the rules below, and the answer says so.
"""

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from math import floor, inf
from typing import Any

from .. import units
from ..catalogue import Errors, catalogue
from ..errors import UsageError
from ..layout import Cell, Column, text
from ..paper import Recipe
from ..record import to_json
from ..table import Table
from .prediction import Calibration, Prediction, predict, predict_step

SMALL_SIDE = 64  # images up to this side go to networks for small images
SMALL_INPUT = 64  # networks whose own input is up to this side are for small images
SIZES = (112, 224)  # inputs that are tried for photos
FIRST_LOOK = "lenet5_relu"  # always in the list, as what any other has to beat
PASSES = ((10_000, 20.0), (100_000, 10.0))  # images below, and how often each is to be seen at least
LEAST_PASSES = 5.0  # of more images
MOST = 2.0  # times the least number of passes, which more time is not spent on
SPARE = 0.9  # of the time is planned with: opening the data, checkpoints and the last evaluation take the rest
UPDATES = 40  # that an epoch has at least, or the batch is made smaller
SMALLEST_BATCH = 16
FEW_IMAGES = 10_000  # below, networks for photos are trained by RECIPE
RECIPE = "small"
TRY = 3
SHOWN = 8  # of the calibration's points
RULES = (
    f"images of up to {SMALL_SIDE} pixels go to networks made for small images, larger ones to those made for photos, "
    f"at {SIZES[0]} or {SIZES[1]} pixels, whichever larger one fits the time; {FIRST_LOOK} is listed for comparison",
    f"each image is to be seen at least {PASSES[0][1]:g} times where there are under {PASSES[0][0]:,}, "
    f"{PASSES[1][1]:g} times under {PASSES[1][0]:,}, else {LEAST_PASSES:g} times, and at most {MOST:g} times as often",
    f"a tenth of the time is kept for all that is no training, and an epoch has {UPDATES} updates or more",
    "to try are the cheapest, the one with the best published accuracy, and one between, of different papers",
)


@dataclass(frozen=True)
class Facts:
    """What a proposal needs to know of a data set."""

    name: str
    source: str  # as it is given to `convatlas train`
    train: int  # images
    validation: int
    classes: tuple[str, ...]
    channels: int
    side: int  # median of the shorter side of some training images
    loaders: int  # processes that load beside the training; 0: the training loads itself
    load_ms: float  # to load one image, on one core


@dataclass(frozen=True)
class Setting:
    """A network at an input size, with the recipe's fields that the data asks for."""

    network: str
    size: int
    recipe: Recipe
    named: str  # the recipe's name where it is not the network's own
    batch: int


@dataclass(frozen=True)
class Prospect:
    """What one network would cost."""

    network: str
    family: str  # its paper
    input: tuple[int, int, int]
    params: int
    macs: int  # of one image
    forward: Prediction  # of one image
    epoch_s: float
    epochs: int  # that are proposed, or that it would take where it does not fit
    seconds: float  # of that training
    most_seconds: float  # at the upper end of the prediction's range
    published: Errors | None
    dataset: str  # that the published accuracy is about
    variant: str  # what sets it apart from its paper's own network; "" for that one
    fits: bool
    command: str = ""

    @property
    def error(self) -> float:
        """The published top-1 error in per cent; infinite where there is none."""
        return float(self.published.top1) if self.published and self.published.top1 else inf


@dataclass(frozen=True)
class Proposal:
    facts: Facts
    seconds: float
    passes: float  # how often each image is seen at least
    to_try: tuple[Prospect, ...]
    fits: tuple[Prospect, ...]  # the others that do, cheapest first
    too_long: tuple[Prospect, ...]
    calibration: Calibration
    notes: tuple[str, ...]
    rules: tuple[str, ...] = RULES

    def as_json(self) -> str:
        record: dict[str, Any] = {f: getattr(self, f) for f in self.__dataclass_fields__}
        return to_json(record)

    def as_text(self) -> str:
        facts, marks = self.facts, _marks([*self.to_try, *self.fits, *self.too_long])
        blocks = [
            f"{facts.name}: {facts.train:,} training images of {len(facts.classes)} classes, about {facts.side} pixels "
            f"on the shorter side; {units.seconds(self.seconds)} for one training."
        ]
        for heading, group in (("Try these", self.to_try), ("Fits too", self.fits)):
            if group:
                blocks.append(f"{heading}, cheapest first:\n\n{text(*_fitting(group, marks))}")
        if not self.to_try:
            blocks.append("No network fits the time.")
        if self.too_long:
            blocks.append(f"Does not fit the time:\n\n{text(*_exceeding(self.too_long, marks))}")
        if marks:
            lines = [f"({mark}) {said}" for said, mark in marks.items()]
            blocks.append("\n".join(["Published top-1 error by protocol, which differ:", *lines]))
        blocks.append("\n".join(f"Note: {note}." for note in self.notes))
        blocks.append("\n".join(["Rules of ours:", *(f"- {rule}" for rule in self.rules)]))
        blocks.append(f"Predicted against measured forward times on this machine:\n\n{self.calibration.as_text(SHOWN)}")
        return "\n\n".join(blocks)


# ---- Rules -----------------------------------------------------------------------------------------------------------


def least_passes(images: int) -> float:
    """How often a training sees each image at least, so that it is worth looking at."""
    return next((passes for below, passes in PASSES if images < below), LEAST_PASSES)


def settings(facts: Facts) -> list[Setting]:
    """All networks that suit the images, at each input size that is tried."""
    known = catalogue()
    found = []
    for name, entry in known.networks.items():
        own = entry.input[1]
        for size in _sizes(name, own, facts) if entry.classes and entry.recipe else ():
            named = RECIPE if own > SMALL_INPUT and facts.train < FEW_IMAGES else ""
            recipe = known.recipes[named or entry.recipe]
            found.append(Setting(name, size, recipe, named, _batch(recipe.batch, facts.train)))
    return found


def _sizes(name: str, own: int, facts: Facts) -> tuple[int, ...]:
    if own <= SMALL_INPUT:
        return (own,) if facts.side <= SMALL_SIDE or name == FIRST_LOOK else ()
    if facts.side <= SMALL_SIDE:
        return ()
    # An image is not enlarged by more than half: that costs time and shows nothing more.
    return tuple(size for size in SIZES if size <= max(SIZES[0], 1.5 * facts.side))


def _batch(own: int, images: int) -> int:
    """The recipe's batch, halved until an epoch has UPDATES."""
    batch = own
    while batch > SMALLEST_BATCH and images < UPDATES * batch:
        batch //= 2
    return max(1, batch)


def _changes(setting: Setting, epochs: int, facts: Facts) -> Iterable[str]:
    """Fields of the recipe that differ from it."""
    recipe = setting.recipe
    if catalogue().networks[setting.network].input[1] != setting.size:
        yield f"size={setting.size}"
    if recipe.iterations is not None:
        yield "iterations=none"
    yield f"epochs={epochs}"
    if recipe.schedule != "cosine":
        yield "schedule=cosine"
    if recipe.warm_up:  # counted in the recipe's own unit, which may be iterations
        yield "warm_up=1"
    if setting.batch != recipe.batch:
        yield f"batch={setting.batch}"
        yield f"lr={recipe.lr * setting.batch / recipe.batch:.3g}"
        if recipe.parts > 1:
            yield f"parts={max(1, recipe.parts * setting.batch // recipe.batch)}"
    kept = [a for a in recipe.augment if a != "flip"]
    if len(kept) < len(recipe.augment) and all(c.isdigit() for c in facts.classes):
        yield f"augment={','.join(kept)}"  # a mirrored 2 or 7 is no digit


def command(setting: Setting, epochs: int, facts: Facts) -> str:
    """The line that trains it so."""
    words = ["convatlas", "train", setting.network, facts.source]
    words += ["--recipe", setting.named] if setting.named else []
    for change in _changes(setting, epochs, facts):
        words += ["--set", change]
    return shlex.join([*words, "--out", f"runs/{setting.network}"])


# ---- Proposing -------------------------------------------------------------------------------------------------------


def propose(
    facts: Facts,
    seconds: float,
    options: Sequence[tuple[Setting, Table]],
    calibration: Calibration,
    passes: float | None = None,
) -> Proposal:
    """What fits the time, what does not, and which to try. `options` are `settings` with their accounts.

    `passes` is how often each image is to be seen at least; None: `least_passes`. Raises UsageError.
    """
    if not seconds > 0:
        raise UsageError(f"a time of {seconds:g} s fits nothing; give one above 0, like 30m")
    if passes is not None and not passes >= 1:
        raise UsageError(f"{passes:g} passes over the images train nothing; give 1 or more")
    least = least_passes(facts.train) if passes is None else passes
    best: dict[str, Prospect] = {}
    for setting, table in options:
        made = _prospect(setting, table, facts, (seconds, least), calibration)
        known = best.get(setting.network)
        if known is None or _better(made, known):
            best[setting.network] = made
    ranked = sorted(best.values(), key=lambda c: (c.seconds / c.epochs, c.network))
    fits = [c for c in ranked if c.fits]
    chosen = _to_try(fits)
    return Proposal(
        facts=facts,
        seconds=seconds,
        passes=least,
        to_try=tuple(chosen),
        fits=tuple(c for c in fits if c not in chosen),
        too_long=tuple(sorted((c for c in ranked if not c.fits), key=lambda c: c.seconds)),
        calibration=calibration,
        notes=tuple(_notes(facts, chosen, seconds)),
    )


def _better(made: Prospect, known: Prospect) -> bool:
    """Of one network at two sizes: the larger where both fit, the smaller where neither does."""
    if made.fits != known.fits:
        return made.fits
    return (made.input[1] > known.input[1]) == made.fits


def _prospect(
    setting: Setting, table: Table, facts: Facts, wanted: tuple[float, float], calibration: Calibration
) -> Prospect:
    seconds, least = wanted
    step = predict_step(table, calibration, setting.batch)
    forward = predict(table, calibration, setting.batch)
    epoch, slow = (
        _epoch(a, b, setting.batch, facts) for a, b in ((step.ms, forward.ms), (step.high_ms, forward.high_ms))
    )
    time = SPARE * seconds
    enough = max(1, round(least))
    fits = enough * epoch <= time
    # As many as fit even if the prediction is too low, but not fewer than are worth it.
    epochs = min(max(enough, floor(time / slow)), max(enough, round(MOST * least))) if fits else enough
    entry, totals = catalogue().networks[setting.network], table.totals
    made = Prospect(
        network=setting.network,
        family=entry.paper,
        input=(facts.channels, setting.size, setting.size),
        params=totals.params,
        macs=totals.macs,
        forward=predict(table, calibration),
        epoch_s=epoch,
        epochs=epochs,
        seconds=epochs * epoch,
        most_seconds=epochs * slow,
        published=catalogue().errors(setting.network),
        dataset=catalogue().recipes[entry.recipe].dataset,
        variant=entry.about,
        fits=fits,
    )
    return replace(made, command=command(setting, epochs, facts)) if fits else made


def _epoch(step_ms: float, forward_ms: float, batch: int, facts: Facts) -> float:
    """Seconds of one pass over the training images and of one validation; loading waits only for its own processes."""
    work = step_ms * facts.train / batch + forward_ms * facts.validation / batch
    load = facts.load_ms * (facts.train + facts.validation)
    return (max(work, load / facts.loaders) if facts.loaders else work + load) / 1000


def _to_try(fits: Sequence[Prospect]) -> list[Prospect]:
    """The cheapest; the one with the best published accuracy; and the one between whose published accuracy is best
    among those of about the geometric mean of their costs: all of different papers, cheapest first.

    Accuracies are compared on one data set only, the one that most of them are about, and between the papers' own
    networks where there are some.
    """
    if not fits:
        return []
    chosen = [fits[0]]
    sets = [c.dataset for c in fits if c.error < inf]
    common = max(sorted(set(sets)), key=sets.count, default="")
    known = [c for c in fits if c.error < inf and c.dataset == common and c.family != chosen[0].family]
    known = [c for c in known if not c.variant] or known
    if known:
        chosen.append(min(known, key=lambda c: (c.error, c.epoch_s)))
        middle = (chosen[0].epoch_s * chosen[1].epoch_s) ** 0.5
        others = [c for c in known if c.family != chosen[1].family and c.epoch_s < chosen[1].epoch_s]
        cheap = [c for c in others if c.epoch_s <= 2 * middle]
        if others:
            near = min(others, key=lambda c: c.epoch_s)
            chosen.append(min(cheap, key=lambda c: (c.error, c.epoch_s)) if cheap else near)
    for c in fits:  # of what is left the cheapest, where there was too little to choose by accuracy
        if len(chosen) < TRY and c.family not in {x.family for x in chosen}:
            chosen.append(c)
    return sorted(chosen, key=lambda c: c.epoch_s)


def _notes(facts: Facts, chosen: Sequence[Prospect], seconds: float) -> Iterable[str]:
    over = [c.network for c in chosen if c.most_seconds > seconds]
    if over:
        named = f"{', '.join(over)} may take"
        yield f"{named} longer than {units.seconds(seconds)} at the upper end of the prediction"
    yield (
        "a published accuracy is about another data set, often much larger; it ranks networks here and says nothing of "
        "what these images will give"
    )
    if facts.load_ms:
        beside = "by other processes beside the training" if facts.loaders else "between the steps"
        yield f"loading took {units.milliseconds(facts.load_ms)} for one of these images; it is done {beside}"
    yield "auxiliary classifiers and augmentation take time too, which is not predicted"


# ---- Text ------------------------------------------------------------------------------------------------------------


def _marks(group: Sequence[Prospect]) -> dict[str, str]:
    """A letter for each protocol of the published accuracies."""
    said = dict.fromkeys(_protocol(c) for c in group if c.error < inf)
    return {words: _letter(i) for i, words in enumerate(said)}


def _letter(number: int) -> str:
    return (_letter(number // 26 - 1) if number >= 26 else "") + chr(ord("a") + number % 26)


def _protocol(c: Prospect) -> str:
    assert c.published is not None
    said = c.published.protocol
    return f"{said if said.startswith(c.dataset) else f'{c.dataset}, {said}'} ({c.published.source})"


def _published(c: Prospect, marks: dict[str, str]) -> str | None:
    """With the digits that were printed."""
    return f"{c.published.top1} % ({marks[_protocol(c)]})" if c.published and c.error < inf else None


def _common(c: Prospect, marks: dict[str, str]) -> list[Cell]:
    counts = units.milliseconds(c.forward.ms), units.count(c.macs), units.count(c.params)
    return [c.network, units.shape(c.input), *counts, _published(c, marks)]


def _columns(*more: Column) -> list[Column]:
    names = ("forward, batch 1", "MACs", "parameters", "published error")
    return [Column("network"), Column("input"), *(Column(n, True) for n in names), *more]


def _fitting(group: Sequence[Prospect], marks: dict[str, str]) -> tuple[list[Column], list[list[Cell]]]:
    columns = _columns(Column("epochs", True), Column("training", True), Column("up to", True), Column("command"))
    times: list[list[Cell]] = [
        [c.epochs, units.seconds(c.seconds), units.seconds(c.most_seconds), c.command] for c in group
    ]
    return columns, [[*_common(c, marks), *more] for c, more in zip(group, times, strict=True)]


def _exceeding(group: Sequence[Prospect], marks: dict[str, str]) -> tuple[list[Column], list[list[Cell]]]:
    columns = _columns(Column("epochs", True), Column("needs", True))
    return columns, [[*_common(c, marks), c.epochs, units.seconds(c.seconds)] for c in group]
