"""From data to a trained network: check-data, train, evaluate."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from .app import DATA, Device, Json, app, busy, next_step, say


@app.command(name="check-data", sort_key=4)
def check_data(source: Annotated[str, Parameter(help=DATA)], /, *, json: Json = False) -> None:
    """Look at every image of a data set: counts, sizes, class balance, files that cannot be read. Exit 3 for those."""
    from ..data import check
    from ..errors import BadData

    with busy(f"looking at {source}") as progress:
        found = check(source, progress=lambda done, total: progress(f"{done:,} of {total:,}"))
    say(found.as_json() if json else found.as_text())
    if found.bad:
        raise BadData(f"{len(found.bad)} of the files cannot be read; they would be left out and counted in training")


@Parameter(name="*")
@dataclass(frozen=True)
class Place:
    """Where a training goes and what it starts from."""

    out: Annotated[Path, Parameter(help="The run folder to make, or to go on with.")]
    seed: Annotated[int | None, Parameter(help="Weights, order, augmentation; default 0, on a resume the run's.")] = (
        None
    )
    resume: Annotated[bool, Parameter(negative=(), help="Go on from the last checkpoint.")] = False
    weights: Annotated[str | None, Parameter(help="Start from a .safetensors, .pth, or torchvision[:NAME].")] = None
    device: Device = "auto"
    workers: Annotated[int | None, Parameter(help="Loader processes for photos; never changes the result.")] = None


@app.command(sort_key=5)
def train(
    network: Annotated[str, Parameter(help="A network of `convatlas list`.")],
    data: Annotated[str, Parameter(help=DATA)],
    /,
    *,
    place: Place,
    recipe: Annotated[
        str | None, Parameter(help="A recipe of the network's paper; default: the network's own.")
    ] = None,
    set: Annotated[
        tuple[str, ...], Parameter(help="Change a recipe's field: --set lr=0.05 --set size=112.", negative=())
    ] = (),
) -> None:
    """Train a network by its paper's recipe, or a changed one.

    The run folder keeps everything; a stopped run goes on with --resume and ends with the same bits.
    """
    from ..catalogue import catalogue
    from ..errors import UnknownName
    from ..paper import Recipe
    from ..record import changed

    known = catalogue()
    name = recipe or known.entry(network).recipe
    if name and name not in known.recipes:
        raise UnknownName("recipe", name, known.recipes)
    # A module has no recipe, and `train` says that it cannot be trained.
    settled: Recipe | None = changed(known.recipes[name], set, "recipe") if name else None
    if place.resume and not recipe and not set:
        settled = None  # the run's own
    from ..train import Options, summary
    from ..train import train as work

    options = Options(device=place.device, weights=place.weights)
    if place.workers is not None:
        options = Options(device=place.device, weights=place.weights, workers=place.workers)
    result = work(network, data, place.out, recipe=settled, seed=place.seed, resume=place.resume, options=options)
    say(summary(result))
    next_step(f"convatlas measure {place.out}", f"convatlas report {place.out} --out report.html")


@app.command(sort_key=6)
def evaluate(
    source: Annotated[Path, Parameter(help="A run folder or a bundle.")],
    data: Annotated[str, Parameter(help=DATA)],
    /,
    *,
    split: Annotated[str, Parameter(help="train, validation or test.")] = "test",
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Count the images of a split that a classifier gets right, as k of N with a 95 % interval."""
    from ..record import to_json
    from ..train import evaluate as work
    from ..train import summary

    result = work(source, data, split=split, device=device)
    fields = ("correct", "images", "top1", "top5_correct", "top5", "interval", "unreadable", "view")
    answer = {f: getattr(result.accuracy, f) for f in fields} | {"data": result.data}
    say(to_json(answer) if json else summary(result))
