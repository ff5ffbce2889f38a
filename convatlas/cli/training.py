"""From data to a trained network: train."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ..errors import UsageError
from .app import DATA, Device, app, next_step, say

if TYPE_CHECKING:
    from ..paper import Recipe
    from ..train import Options


@Parameter(name="*")
@dataclass(frozen=True)
class Place:
    """Where a training goes and what it starts from."""

    out: Annotated[Path, Parameter(help="The run folder to make, or to go on with.")]
    seed: Annotated[int | None, Parameter(help="Weights, order, augmentation; default 0, on a resume the run's.")] = (
        None
    )
    seeds: Annotated[str | None, Parameter(help="Several runs, OUT/seed-1 and so on: --seeds 1,2,3.")] = None
    folds: Annotated[int | None, Parameter(help="So many runs, each validated on another part of the images.")] = None
    resume: Annotated[bool, Parameter(negative=(), help="Go on from the last checkpoint.")] = False
    weights: Annotated[str | None, Parameter(help="Start from a .safetensors, .pth, or torchvision[:NAME].")] = None
    freeze: Annotated[str | None, Parameter(help="Layers that do not learn: --freeze conv1..conv4.")] = None


@Parameter(name="*")
@dataclass(frozen=True)
class Manner:
    """How it runs; the result is the same, but for the last bits."""

    device: Device = "auto"
    workers: Annotated[int | None, Parameter(help="Loader processes for photos; never changes the result.")] = None
    compile: Annotated[bool, Parameter(negative=(), help="Compile the network with torch.compile.")] = False
    gradients: Annotated[bool, Parameter(negative=(), help="Log the gradients' norms by layer.")] = False
    tensorboard: Annotated[bool, Parameter(negative=(), help="Write the curves for TensorBoard too.")] = False


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
    manner: Manner = Manner(),
) -> None:
    """Train a network by its paper's recipe, or a changed one.

    The run folder keeps everything; a stopped run goes on with --resume and ends with the same bits.

        convatlas train resnet18 photos/ --recipe small --out runs/resnet18
        convatlas train resnet18 photos/ --recipe small --weights torchvision --freeze conv1..conv4 --out runs/tuned
        convatlas train alexnet photos/ --set parts=4 --set precision=bf16 --out runs/alexnet
        convatlas train lenet5 mnist/ --seeds 1,2,3 --out runs/three
        torchrun --nproc-per-node 2 -m convatlas train resnet50 photos/ --out runs/resnet50
    """
    from ..train import Options, summary
    from ..train import train as work
    from ..train.processes import speaks

    changes = (*set, *([f"freeze={place.freeze}"] if place.freeze else ()))
    settled = _recipe(network, recipe, changes, place.resume)
    options = Options(
        device=manner.device,
        workers=manner.workers,
        weights=place.weights,
        compile=manner.compile,
        gradients=manner.gradients,
        tensorboard=manner.tensorboard,
    )
    if place.seeds is not None or place.folds is not None:
        _several(network, data, place, settled, options)
        return
    result = work(network, data, place.out, recipe=settled, seed=place.seed, resume=place.resume, options=options)
    if not speaks():
        return
    draw_curves(place.out)
    say(summary(result))
    next_step(f"convatlas measure {place.out}", f"convatlas report {place.out} --out report.html")


def _recipe(network: str, name: str | None, changes: Sequence[str], resume: bool) -> "Recipe | None":
    """The recipe that the command line asks for; None where a run that goes on has its own."""
    from ..catalogue import catalogue
    from ..errors import UnknownName
    from ..record import changed

    known = catalogue()
    chosen = name or known.entry(network).recipe
    if chosen and chosen not in known.recipes:
        raise UnknownName("recipe", chosen, known.recipes)
    # A module has no recipe, and `train` says that it cannot be trained.
    settled = changed(known.recipes[chosen], changes, "recipe") if chosen else None
    return None if resume and not name and not changes else settled


def _several(network: str, data: str, place: Place, recipe: "Recipe | None", options: "Options") -> None:
    from ..train import several
    from ..train.processes import speaks

    if place.seeds is not None and (place.folds is not None or place.seed is not None):
        raise UsageError("--seeds stands alone; leave --seed and --folds out")
    if place.folds is not None:
        found = several.train_folds(
            network, data, place.out, place.folds, recipe=recipe, seed=place.seed, resume=place.resume, options=options
        )
    else:
        found = several.train_seeds(
            network, data, place.out, _numbers(place.seeds or ""), recipe=recipe, resume=place.resume, options=options
        )
    if not speaks():
        return
    for run in found.runs:
        draw_curves(run)
    say(found.as_text())
    runs = " ".join(map(str, found.runs))
    next_step(f"convatlas evaluate {runs} {data}", f"convatlas report {runs} --out report.html")


def _numbers(given: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in given.split(","))
    except ValueError:
        raise UsageError(f"--seeds {given!r} is no list of seeds; write whole numbers like 1,2,3") from None


def draw_curves(run: Path) -> None:
    """Puts the picture of the curves into a run folder, which its README shows."""
    from .. import files
    from ..charts import training_curves
    from ..compare import compare

    drawn = training_curves(compare([run]))
    if drawn is not None:
        files.write(run / "curves.svg", drawn.svg())
