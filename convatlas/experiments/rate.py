"""The learning-rate range test: which rates does a network learn with, and from which on does it go astray?

After Smith, "Cyclical Learning Rates for Training Neural Networks" (2017, arXiv 1506.01186), section 3.3: one short run
in which the rate grows from step to step. Smith lets it grow linearly; here it grows exponentially, since the rates
that matter lie powers of ten apart. Nothing of the network is kept.
"""

from collections.abc import Callable, Iterator, Sequence
from math import inf, isfinite, log
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import units
from ..charts import COLOURS, HEIGHT, Chart, finished, ticks, tooltip
from ..errors import RunFailed, UsageError
from ..layout import Cell, Column, text
from ..pages import legible
from ..paper import Recipe
from ..result import command, this_machine, versions
from .answers import Rates, Step
from .page import Page, Part, machine_facts, write
from .setting import Stepping, recipe_of, refuse_small, side

if TYPE_CHECKING:
    from torch import Tensor

    from ..data import Data

SMOOTHING = 0.9  # ours: share of the mean so far in the moving average of the loss
ASTRAY = 4.0  # ours: the test ends when the smoothed loss is so many times its lowest
FEWEST = 10
RULE = "a tenth of the rate at which the smoothed loss is lowest"


def rate(
    network: str,
    data: str,
    *,
    settings: Sequence[str] = (),
    steps: int = 200,
    rates: tuple[float, float] = (1e-5, 10.0),
    seed: int = 0,
    device: str = "auto",
    progress: Callable[[str], None] = lambda words: None,
) -> Rates:
    """Trains a new network for some steps while the rate grows from the first of `rates` to the second.

    Batch, optimiser, loss and augmentation are the recipe's; mixing of images is left out. Raises UsageError for a
    range that is none, RunFailed where the loss is not finite before there is anything to see.
    """
    import torch

    from ..classifier import Spec, pick_device
    from ..train.device import private_random_state

    first, last = rates
    refuse_small("--steps", steps, FEWEST)
    if not 0 < first < last < inf:
        raise UsageError(f"the rates {first:g} to {last:g} are no range; give --from above 0 and --to above it")
    recipe = recipe_of(network, settings)
    place = pick_device(device)
    opened, preprocess, batches = _batches(network, data, recipe, seed)
    with private_random_state(place):
        torch.manual_seed(seed)  # for dropout
        stepping = Stepping(Spec(network, opened.classes, preprocess).build(seed), recipe, place)
        grown = [first * (last / first) ** (i / (steps - 1)) for i in range(steps)]
        made, why = _run(stepping, batches, grown, progress)
    if len(made) < FEWEST:
        raise RunFailed(f"{why}, after {len(made)} steps; begin lower, like --from {first / 1000:g}")
    best, steepest = judged(made)
    if best <= made[len(made) // 10].rate:
        raise RunFailed(f"the loss was lowest at the very first rates; begin lower, like --from {first / 1000:g}")
    return Rates(
        network=network,
        data=opened.name,
        batch=recipe.batch,
        optimiser=recipe.optimiser,
        seed=seed,
        steps=tuple(made),
        proposed=float(f"{best / 10:.2g}"),
        lowest=best,
        steepest=steepest,
        recipe_rate=recipe.lr,
        stopped=why,
        rule=RULE,
        machine=this_machine(str(place), torch.get_num_threads()),
        versions=versions(),
        command=command(),
    )


def _run(
    stepping: Stepping,
    batches: "Iterator[tuple[Tensor, Tensor]]",
    grown: Sequence[float],
    progress: Callable[[str], None],
) -> tuple[list[Step], str]:
    """An update at each rate, and why they ended."""
    made: list[Step] = []
    mean, lowest = 0.0, inf
    for number, (now, (images, labels)) in enumerate(zip(grown, batches, strict=False), 1):
        for group in stepping.optimiser.param_groups:
            group["lr"] = now
        loss = stepping.step(images, labels)
        if not isfinite(loss):
            return made, f"the loss was not finite at a rate of {now:.3g}"
        mean = SMOOTHING * mean + (1 - SMOOTHING) * loss
        smoothed = mean / (1 - SMOOTHING**number)
        lowest = min(lowest, smoothed)
        made.append(Step(now, loss, smoothed))
        progress(f"step {number} of {len(grown)}, rate {now:.2g}, loss {loss:.3g}")
        if smoothed > ASTRAY * lowest:
            return made, f"the smoothed loss was {ASTRAY:g} times its lowest at a rate of {now:.3g}"
    return made, "the last rate was reached"


def judged(made: Sequence[Step]) -> tuple[float, float]:
    """The rate with the lowest smoothed loss, and that at which it falls fastest over the logarithm of the rate.

    The fall is a central difference; the first steps, of which the moving average knows too little, are left out.
    """
    lowest = min(made, key=lambda s: s.smoothed).rate
    skip = min(len(made) // 10, len(made) - 3)
    inner = range(skip + 1, len(made) - 1)

    def slope(i: int) -> float:
        a, b = made[i - 1], made[i + 1]
        return (b.smoothed - a.smoothed) / (log(b.rate) - log(a.rate))

    return lowest, made[min(inner, key=slope)].rate


def _batches(network: str, data: str, recipe: Recipe, seed: int) -> "tuple[Data, Any, Iterator[tuple[Tensor, Tensor]]]":
    """The data, its preprocessing, and training batches without end, as a training would have them."""
    from ..data import Preprocess, moments, open_data
    from ..data.augment import parse
    from ..data.loader import Feed
    from ..data.parallel import cores

    opened = open_data(data, validation=recipe.validation)
    split = opened.split("train")
    height, width = side(network, recipe)
    bare = Preprocess(opened.channels, height, width, fit=recipe.fit, crop=recipe.crop)
    mean, std = moments.statistics(split, bare, workers=cores())
    preprocess = Preprocess(
        opened.channels, height, width, fit=recipe.fit, crop=recipe.crop, mean=mean, std=std, whiten=recipe.whiten
    )
    colours = moments.colours(split, bare, workers=cores()) if parse(recipe.augment).needs_colours else None
    feed = Feed(split, preprocess, recipe.augment, batch=recipe.batch, seed=seed, colours=colours)

    def endless() -> "Iterator[tuple[Tensor, Tensor]]":
        epoch = 0
        while True:
            for batch in feed.batches(epoch):
                if len(batch.labels) >= min(2, recipe.batch):  # batch norm cannot learn from one image
                    yield batch.images, batch.labels
            epoch += 1

    return opened, preprocess, endless()


# ---- How it is shown -------------------------------------------------------------------------------------------------


def sentence(found: Rates) -> str:
    """The proposal and where it comes from."""
    more = " The loss still fell at the last rate; a higher --to may show more." * (
        found.lowest == found.steps[-1].rate
    )
    return (
        f"Try {found.proposed:g} for {found.network} on {found.data} with batch {found.batch}: {found.rule}, "
        f"{found.lowest:.2g}. It falls fastest at {found.steepest:.2g}; the recipe has {found.recipe_rate:g}.{more}"
    )


def as_text(found: Rates) -> str:
    rows: list[list[Cell]] = [
        [f"{s.rate:.3g}", f"{s.loss:.4f}", f"{s.smoothed:.4f}", _mark(found, s)] for s in _shown(found)
    ]
    columns = [Column("rate", True), Column("loss", True), Column("smoothed", True), Column("")]
    return f"{text(columns, rows)}\n\n{sentence(found)}\nIt ended: {found.stopped}."


def _shown(found: Rates) -> list[Step]:
    """About twenty steps, and those that the answer names."""
    every = max(1, len(found.steps) // 20)
    named = (found.lowest, found.steepest)
    return [s for i, s in enumerate(found.steps) if i % every == 0 or s.rate in named]


def _mark(found: Rates, s: Step) -> str:
    marks = (("lowest", found.lowest), ("falls fastest", found.steepest))
    return ", ".join(word for word, where in marks if s.rate == where)


def chart(found: Rates) -> Chart:
    """Loss over the rate, logarithmic: dots for the steps, a line for the moving average, a rule at the proposal."""
    import altair as alt

    values = [{"rate": s.rate, "loss": s.loss, "smoothed": s.smoothed} for s in found.steps]
    low, high = found.steps[0].rate, found.steps[-1].rate
    top = 1.1 * max(s.smoothed for s in found.steps)
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    axis = alt.Axis(values=ticks(low, high), format="~g")
    fields = {"rate": ("Rate", ".3g"), "loss": ("Loss", ".4f"), "smoothed": ("Smoothed", ".4f")}
    x = alt.X("rate:Q", title="Learning rate (log scale)", scale=scale, axis=axis)
    up = alt.Scale(domain=[0, top], nice=False)
    base = alt.Chart(alt.Data(values=values)).encode(x=x, tooltip=tooltip(fields))
    mark = alt.Chart(alt.Data(values=[{"rate": found.proposed, "words": f"proposed {found.proposed:g}"}])).encode(x=x)
    layers = [
        base.mark_point(filled=True, size=18, opacity=0.45, color=COLOURS[0], clip=True).encode(
            y=alt.Y("loss:Q", title="Loss", scale=up)
        ),
        base.mark_line(strokeWidth=2.5, color=COLOURS[1]).encode(y=alt.Y("smoothed:Q", title="Loss", scale=up)),
        mark.mark_rule(strokeDash=[5, 4], strokeWidth=1.5, color="currentColor"),
        mark.mark_text(align="left", dx=6, dy=-HEIGHT // 2 + 12, fontSize=12, color="currentColor").encode(
            text="words:N"
        ),
    ]
    description = (
        "Loss of each step (dots) and its moving average (line) while the learning rate grows. The average is lowest "
        f"at {found.lowest:.2g} and falls fastest at {found.steepest:.2g}. It ended: {found.stopped}."
    )
    columns = [Column("rate", True), Column("loss", True), Column("smoothed", True)]
    rows: list[list[Cell]] = [[f"{s.rate:.3g}", f"{s.loss:.4f}", f"{s.smoothed:.4f}"] for s in found.steps]
    return Chart("rate", "Loss by learning rate", description, finished(alt.layer(*layers), description), columns, rows)


def draw(found: Rates, out: Path) -> Path:
    """Writes the chart as an .svg picture, or a .html page with the table and how it was made; gives the path.

    Raises UsageError for another ending, SaveFailed.
    """
    from .. import files

    refuse_ending(out)
    shown = legible(found)
    if out.suffix == ".svg":
        out.parent.mkdir(parents=True, exist_ok=True)
        files.write(out, chart(shown).svg())
        return out
    facts = [
        ("Steps", f"{len(shown.steps)}, batch {shown.batch}, {shown.optimiser}, a new network that is not kept"),
        ("Rates", f"{shown.steps[0].rate:g} to {shown.steps[-1].rate:.3g}, each step’s a constant factor higher"),
        ("Moving average", f"{units.percent(SMOOTHING)} of the mean so far, corrected for its beginning at 0"),
        ("Rule", shown.rule),
        ("Ended", shown.stopped),
        ("Seed", str(shown.seed)),
        *machine_facts(shown.machine, shown.versions),
    ]
    parts = [
        Part("Loss by learning rate", chart=chart(shown)),
        Part("How it was made", facts=facts),
        Part("The command", commands=shown.command),
    ]
    page = Page(f"Learning rates for {shown.network} on {shown.data}", (sentence(shown),), (), parts)
    return write(page, found, out)


def refuse_ending(out: Path) -> None:
    """Raises UsageError for a file that is neither a picture nor a page."""
    if out.suffix not in (".svg", ".html"):
        raise UsageError(f"--out {out} ends in neither .svg nor .html; choose one, like rate.html")
