"""The command: a function a verb. Each imports what it needs, so that help and the catalogue answer without torch."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import App, CycloptsError, Parameter

from . import units
from .errors import ConvAtlasError, UsageError
from .version import __version__

if TYPE_CHECKING:
    from .compare import Limits
    from .table import Table

HELP = """From a folder of labelled photos to a chosen, trained, verified, exportable classifier.

    convatlas check-data photos/
    convatlas train resnet18 photos/ --recipe small --out runs/resnet18
    convatlas measure runs/resnet18
    convatlas report runs/* --out report.html
    convatlas export runs/resnet18 --to onnx --out bundle
    convatlas predict bundle photo.jpg
"""
app = App(name="convatlas", version=__version__, help=HELP, help_format="plaintext", version_flags=["--version"])

Json = Annotated[bool, Parameter(name="--json", negative=(), help="Answer as JSON.")]
Device = Annotated[str, Parameter(help="cpu, cuda, mps; auto takes the accelerator if there is one.")]
Runs = Annotated[Path, Parameter(help="Run folders, as `train --out` made them.")]
DATA = "`digits`, a folder of images (train/ validation/ test/, or one folder a class), or a folder of IDX files."


@app.command(name="list", sort_key=1)
def list_networks(
    *,
    filter: Annotated[str, Parameter(help="Names that match, for example 'resnet*'.")] = "*",
    json: Json = False,
) -> None:
    """List the networks with their papers, parameters, MACs and published errors."""
    from fnmatch import fnmatchcase

    from .catalogue import catalogue, list_json, list_text

    known = catalogue().networks
    found = [e for e in known.values() if fnmatchcase(e.name, filter)]
    if not found:
        raise UsageError(f"no network matches {filter!r}; `convatlas list` shows all {len(known)}")
    _say(list_json(found) if json else list_text(found))


@app.command(sort_key=2)
def table(
    name: Annotated[str, Parameter(help="A network of `convatlas list`.")],
    /,
    *,
    input: Annotated[str | None, Parameter(help="Channels, height and width, for example 1x64x64.")] = None,
    json: Json = False,
    csv: Annotated[bool, Parameter(negative=(), help="A line a row, exact integers.")] = False,
    markdown: Annotated[bool, Parameter(negative=(), help="A GitHub table.")] = False,
    depth: Annotated[
        int | None,
        Parameter(help="Names of the module path that make a row; 1, the paper's table, or 0, a row an operation."),
    ] = None,
) -> None:
    """Account for a network: shapes, parameters, MACs, activation memory and receptive field.

    A row is a stage under its paper's label; with --depth 0, as in --json and --csv, an operation.
    """
    from .catalogue import catalogue
    from .catalogue import table as known_table

    entry = catalogue().entry(name)
    if input is None or _shape(input) == entry.input:
        account = known_table(name)
    else:
        account = _walk(name, _shape(input))
    if json + csv + markdown > 1:
        raise UsageError("--json, --csv and --markdown exclude each other; give one")
    if depth is None:
        depth = 0 if json or csv else 1
    if depth < 0:
        raise UsageError(f"--depth {depth} is no number of names; give 0 for every operation, or 1, 2, ...")
    account = account.stages(depth) if depth else account
    form = "json" if json else "csv" if csv else "markdown" if markdown else "text"
    _say(getattr(account, f"as_{form}")())


def _walk(name: str, shape: tuple[int, int, int]) -> "Table":
    """The account at another input than the catalogue has, without memory for the weights."""
    import torch

    from .account import account
    from .layers import drop_heads
    from .networks import build

    with torch.device("meta"):
        net = build(name, channels=shape[0], input=shape[1:]).eval()
    drop_heads(net)
    return account(net, shape, name=name)


def _shape(given: str) -> tuple[int, int, int]:
    try:
        channels, height, width = units.read_shape(given)
    except ValueError:
        raise UsageError(f"--input {given!r} is no input; write channels x height x width, like 3x224x224") from None
    return channels, height, width


@app.command(sort_key=3)
def claims(
    paper: Annotated[str | None, Parameter(help="A paper's key, for example resnet, or lecture.")] = None,
    /,
    *,
    json: Json = False,
) -> None:
    """Check every figure that the papers and the lecture printed against what it comes to."""
    from .claims import claims as check
    from .claims import claims_text
    from .record import to_json

    found = check(paper)
    _say(to_json(found) if json else claims_text(found))


@app.command(name="check-data", sort_key=4)
def check_data(source: Annotated[str, Parameter(help=DATA)], /, *, json: Json = False) -> None:
    """Look at every image of a data set: counts, sizes, class balance, files that cannot be read. Exit 3 for those."""
    from .data import check
    from .errors import BadData

    with _busy(f"looking at {source}") as progress:
        found = check(source, progress=lambda done, total: progress(f"{done:,} of {total:,}"))
    _say(found.as_json() if json else found.as_text())
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
    weights: Annotated[str | None, Parameter(help="Start from a .safetensors or .pth file, or torchvision[:NAME].")] = (
        None
    )
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
    from .catalogue import catalogue
    from .errors import UnknownName
    from .paper import Recipe
    from .record import changed

    known = catalogue()
    name = recipe or known.entry(network).recipe
    if name and name not in known.recipes:
        raise UnknownName("recipe", name, known.recipes)
    # A module has no recipe, and `train` says that it cannot be trained.
    settled: Recipe | None = changed(known.recipes[name], set, "recipe") if name else None
    if place.resume and not recipe and not set:
        settled = None  # the run's own
    from .train import Options, summary
    from .train import train as work

    options = Options(device=place.device, weights=place.weights)
    if place.workers is not None:
        options = Options(device=place.device, weights=place.weights, workers=place.workers)
    result = work(network, data, place.out, recipe=settled, seed=place.seed, resume=place.resume, options=options)
    _say(summary(result))
    _next(f"convatlas measure {place.out}", f"convatlas report {place.out} --out report.html")


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
    from .record import to_json
    from .train import evaluate as work
    from .train import summary

    result = work(source, data, split=split, device=device)
    fields = ("correct", "images", "top1", "top5_correct", "top5", "interval", "unreadable", "view")
    answer = {f: getattr(result.accuracy, f) for f in fields} | {"data": result.data}
    _say(to_json(answer) if json else summary(result))


@app.command(sort_key=7)
def measure(
    *sources: Annotated[str, Parameter(help="Networks of the catalogue, run folders or bundles.")],
    batch: Annotated[str, Parameter(help="Batch sizes, separated by commas.")] = "1,2,4,8,16,32,64",
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Measure the forward time for each batch size; a run folder keeps its measurement for compare and report."""
    from .measure import measure as work
    from .measure import record, summary
    from .record import to_json

    if not sources:
        raise UsageError(
            "nothing to measure; give a network, a run folder or a bundle, like `convatlas measure resnet18`"
        )
    try:
        batches = tuple(int(part) for part in batch.split(","))
        if min(batches) < 1:
            raise ValueError
    except ValueError:
        raise UsageError(f"--batch {batch!r} is no list of batch sizes; write whole numbers like 1,8,64") from None
    for source in sources:
        with _busy(f"measuring {source}") as progress:
            result = work(source, batches=batches, device=device, progress=progress)
        if (Path(source) / "checkpoints").is_dir():
            record(Path(source), result)
        _say(to_json(result) if json else summary(result))


@app.command(sort_key=8)
def compare(*runs: Runs, json: Json = False, markdown: Annotated[bool, Parameter(negative=())] = False) -> None:
    """Set runs side by side: accuracy with its interval, MACs, parameters, size and forward time."""
    from .compare import compare as work

    found = work(_some(runs))
    _say(found.as_json() if json else found.as_markdown() if markdown else found.as_text())


@Parameter(name="*")
@dataclass(frozen=True)
class Budget:
    """What the classifier may cost."""

    max_ms: Annotated[float | None, Parameter(help="Forward time of one batch, median, in milliseconds.")] = None
    max_mb: Annotated[float | None, Parameter(help="Size of the weights in megabytes (10^6 bytes).")] = None
    min_accuracy: Annotated[float | None, Parameter(help="Top-1 as a share of one, for example 0.9.")] = None
    batch: Annotated[int, Parameter(help="Batch size that --max-ms is about.")] = 1


@app.command(sort_key=9)
def choose(*runs: Runs, budget: Budget = Budget(), json: Json = False) -> None:
    """Name the best measured run under a budget and say what was given up. Exit 1 when none fits."""
    from .compare import choose as work
    from .compare import compare as side_by_side

    choice = work(side_by_side(_some(runs)), _limits(budget))
    _say(choice.as_json() if json else choice.as_text())
    if choice.pick is None:
        raise ConvAtlasError("no measured run fits the budget; raise a limit or train a smaller network")


@app.command(sort_key=10)
def report(
    *runs: Runs,
    out: Annotated[Path, Parameter(help="The HTML file to write.")] = Path("report.html"),
    budget: Budget = Budget(),
) -> None:
    """Write the comparison as one HTML page that opens offline: charts, tables, curves, commands."""
    from .compare import choose as pick
    from .compare import compare as side_by_side
    from .report import report as work

    found = side_by_side(_some(runs))
    limits = _limits(budget)
    choice = pick(found, limits) if found.comparable else None
    _say(str(work(found, out, choice=choice)))


def _limits(budget: Budget) -> "Limits":
    from .compare import Limits

    return Limits(max_ms=budget.max_ms, max_mb=budget.max_mb, min_accuracy=budget.min_accuracy, batch=budget.batch)


def _some(runs: Sequence[Path]) -> Sequence[Path]:
    if not runs:
        raise UsageError("no run folder given; name one or more, for example runs/*")
    return runs


@app.command(sort_key=11)
def export(
    run: Annotated[Path, Parameter(help="A run folder.")],
    /,
    *,
    out: Annotated[Path, Parameter(help="The bundle folder to make.")],
    to: Annotated[tuple[str, ...], Parameter(help="File formats beside the bundle's own: onnx.", negative=())] = (),
) -> None:
    """Make a bundle to ship: weights, class names, preprocessing, replay images, model card, and exported files.

    A file is kept only if it answers like the bundle on held-out images, from image bytes.
    """
    from .ship import export as work

    formats = tuple(part for item in to for part in item.split(",") if part)
    _say(str(work(run, out, to=formats)))
    _next(f"convatlas predict {out} photo.jpg")


@app.command(sort_key=12)
def predict(
    bundle: Annotated[Path, Parameter(help="A bundle folder.")],
    /,
    *images: Annotated[Path, Parameter(help="Image files or folders.")],
    top: Annotated[int, Parameter(help="How many classes to name.")] = 5,
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Name what is on images, with probabilities. Exit 3 when a file could not be read; the others are answered."""
    from .errors import BadData
    from .record import to_json
    from .ship import predict as work
    from .ship import summary

    if not images:
        raise UsageError(f"no image given; write `convatlas predict {bundle} photo.jpg`")
    if top < 1:
        raise UsageError(f"--top {top} names no class; give 1 or more")
    answers = work(bundle, images, top=top, device=device)
    _say(to_json([a.as_dict() for a in answers]) if json else summary(answers))
    bad = [a for a in answers if a.error]
    if bad:
        raise BadData(f"{len(bad)} of {len(answers)} files could not be read; the first: {bad[0].error}")


@app.command(sort_key=13)
def demo(*, out: Annotated[Path, Parameter(help="Where its runs, bundle and report go.")] = Path("demo")) -> None:
    """Run the main job on the embedded digits, from training three networks to a bundle and a report."""
    from .demo import demo as work

    work(out, main)


def _say(answer: str) -> None:
    print(answer)


@contextmanager
def _busy(what: str) -> Iterator[Callable[[str], None]]:
    """A line on stderr that moves while work goes on, on a terminal only; gives what changes its words."""
    from rich.console import Console

    with Console(stderr=True).status(what) as status:
        yield lambda words: status.update(f"{what}: {words}")


def _next(*commands: str) -> None:
    """What one would type now; talk, so on stderr."""
    for command in commands:
        print(f"next: {command}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and give its exit code: 0 done, 1 failed, 2 usage, 3 data, 4 checkpoint or bundle."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    try:
        app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except (ConvAtlasError, CycloptsError, KeyboardInterrupt, BrokenPipeError, Exception) as error:
        if debug:
            raise
        return _fault(error)
    return 0


def _fault(error: BaseException) -> int:
    """One line on stderr for any error, and its exit code."""
    if isinstance(error, BrokenPipeError):  # the reader of our output is gone, as after `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    if isinstance(error, KeyboardInterrupt):
        print("convatlas: stopped", file=sys.stderr)
        return 130
    line = " ".join(str(error).split())
    code = getattr(error, "exit_code", 1)
    if isinstance(error, CycloptsError):
        code = 2
        line += " `convatlas --help` shows the verbs, `convatlas VERB --help` a verb's options."
    elif not isinstance(error, ConvAtlasError):
        line = f"unexpected {type(error).__name__}: {line}; run again with --debug for the traceback and report it"
    print(f"convatlas: {line}", file=sys.stderr)
    return code
