"""Experiments: degradation, resume, rate, batch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from ..errors import UsageError
from .app import DATA, Device, Json, app, busy, next_step, say

HELP = """Answer a question with trainings or steps of its own.

    convatlas experiment degradation fashion-mnist/ --out runs/degradation
    convatlas experiment resume digits
    convatlas experiment rate resnet20_cifar fashion-mnist/ --out rate.html
    convatlas experiment batch resnet18 photos/
"""
experiment = App(name="experiment", help=HELP, help_format="plaintext", sort_key=14)
app.command(experiment)

Network = Annotated[str, Parameter(help="A network of `convatlas list`.")]
Source = Annotated[str, Parameter(help=DATA)]
Set = Annotated[tuple[str, ...], Parameter(help="Change a recipe's field: --set lr=0.05.", negative=())]
Seed = Annotated[int, Parameter(help="Of weights, order and augmentation.")]


@experiment.command(sort_key=1)
def degradation(
    data: Source,
    /,
    *,
    out: Annotated[Path, Parameter(help="The folder of the runs and of degradation.html.")],
    depths: Annotated[str, Parameter(help="Layers, separated by commas.")] = "20,56",
    epochs: Annotated[float | None, Parameter(help="Length; default 2,100 iterations of the paper's 64,000.")] = None,
    set: Set = (),
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Train plain networks and residual ones of several depths: is the deeper one worse even in training?

    Every run is a folder below --out; called again, what was stopped goes on and what is done stands.
    The page degradation.html has both errors by epoch, gradient norms by depth and what the paper printed.
    With 20 and 56 layers it takes an hour or so on two cores; --set precision=bf16 helps where they have bfloat16.

    convatlas experiment degradation fashion-mnist/ --out runs/degradation --set precision=bf16

    convatlas experiment degradation digits --depths 20,32 --epochs 4 --out runs/small
    """
    from ..experiments.degradation import degradation as work
    from ..experiments.degradation_page import PAGE, degradation_page
    from ..record import to_json

    found = work(data, out, depths=_numbers(depths), epochs=epochs, settings=set, seed=seed, device=device)
    page = degradation_page(found, out / PAGE)
    say(to_json(found) if json else "\n".join((*found.answer, str(page))))


def _numbers(depths: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in depths.split(","))
    except ValueError:
        raise UsageError(f"--depths {depths!r} is no list of depths; write whole numbers like 20,56") from None


@experiment.command(sort_key=2)
def resume(
    data: Source,
    /,
    *,
    network: Network = "lenet5_relu",
    kills: Annotated[
        int, Parameter(help="How often it is killed; every other time inside a save, if it can be met.")
    ] = 5,
    set: Set = (),
    seed: Annotated[int, Parameter(help="Of the training, and of the dice that choose the moments.")] = 0,
    out: Annotated[Path | None, Parameter(help="Keep both run folders here; default: they are removed.")] = None,
    json: Json = False,
) -> None:
    """Kill a short training again and again, resume it, and compare it with one that was left alone.

    Both run in processes of their own; the one is killed with SIGKILL, as `kill -9` does.
    At the end weights, optimiser, log and random state are compared by their sha256.
    Exit 1 on a difference. About half a minute on the digits.

    convatlas experiment resume digits

    convatlas experiment resume photos/ --network resnet18 --set epochs=3 --set size=64 --kills 3
    """
    import tempfile

    from ..errors import RunFailed
    from ..experiments.resume import as_text, verdict
    from ..experiments.resume import resume as work
    from ..record import to_json

    with tempfile.TemporaryDirectory(prefix="convatlas-resume-") as place, busy("experiment resume") as progress:
        folder = Path(place) / "runs" if out is None else out
        found = work(data, folder, network=network, kills=kills, settings=set, seed=seed, progress=progress)
    say(to_json(found) if json else as_text(found))
    if not found.equal:
        raise RunFailed(verdict(found))


@Parameter(name="*")
@dataclass(frozen=True)
class Range:
    """Which rates are tested."""

    steps: Annotated[int, Parameter(help="Updates, each at a rate that is a constant factor higher.")] = 200
    first: Annotated[float, Parameter(name="--from", help="The first rate.")] = 1e-5
    last: Annotated[float, Parameter(name="--to", help="The last rate.")] = 10.0


@experiment.command(sort_key=3)
def rate(
    network: Network,
    data: Source,
    /,
    *,
    over: Range = Range(),
    out: Annotated[Path | None, Parameter(help="Draw it: a .svg picture or a .html page.")] = None,
    set: Set = (),
    seed: Seed = 0,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Test learning rates: a short run in which the rate grows exponentially, and what the loss says of it.

    After Smith (2017). It proposes a tenth of the rate at which the smoothed loss is lowest.
    Nothing is kept of the network.

    convatlas experiment rate resnet20_cifar fashion-mnist/ --out rate.html

    convatlas experiment rate lenet5_relu digits --from 1e-4 --to 5 --json
    """
    from ..experiments.rate import as_text, draw, refuse_ending
    from ..experiments.rate import rate as work
    from ..record import to_json

    if out is not None:
        refuse_ending(out)
    with busy("experiment rate") as progress:
        found = work(
            network,
            data,
            settings=set,
            steps=over.steps,
            rates=(over.first, over.last),
            seed=seed,
            device=device,
            progress=progress,
        )
    drawn = "" if out is None else f"\n{draw(found, out)}"
    say(to_json(found) if json else f"{as_text(found)}{drawn}")
    next_step(f"convatlas train {network} {data} --set lr={found.proposed:g} --out runs/{network}")


@experiment.command(sort_key=4)
def batch(
    network: Network,
    data: Source,
    /,
    *,
    memory: Annotated[str | None, Parameter(help="What a batch may take, like 4GB; default: what is free.")] = None,
    set: Set = (),
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Find the largest batch that trains in the memory: predicted by the account, then tried for real.

    Each batch is tried in a process of its own, so that an end for want of memory ends nothing else.

    convatlas experiment batch resnet18 photos/ --set precision=bf16

    convatlas experiment batch vgg16 photos/ --memory 4GB --json
    """
    from .. import units
    from ..experiments.batch import as_text
    from ..experiments.batch import batch as work
    from ..record import to_json

    try:
        budget = None if memory is None else units.read_size(memory)
    except ValueError:
        raise UsageError(f"--memory {memory!r} is no size; write a number with its unit, like 4GB or 8GiB") from None
    with busy("experiment batch") as progress:
        found = work(network, data, settings=set, budget=budget, device=device, progress=progress)
    say(to_json(found) if json else as_text(found))
