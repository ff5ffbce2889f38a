"""From runs to a choice: measure, compare, choose, report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ..errors import ConvAtlasError, UsageError
from .app import Device, Json, Runs, app, busy, say

if TYPE_CHECKING:
    from ..compare import Limits


@app.command(sort_key=7)
def measure(
    *sources: Annotated[str, Parameter(help="Networks of the catalogue, run folders or bundles.")],
    batch: Annotated[str, Parameter(help="Batch sizes, separated by commas.")] = "1,2,4,8,16,32,64",
    device: Device = "auto",
    json: Json = False,
) -> None:
    """Measure the forward time for each batch size; a run folder keeps its measurement for compare and report."""
    from ..measure import measure as work
    from ..measure import record, summary
    from ..record import to_json

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
        with busy(f"measuring {source}") as progress:
            result = work(source, batches=batches, device=device, progress=progress)
        if (Path(source) / "checkpoints").is_dir():
            record(Path(source), result)
        say(to_json(result) if json else summary(result))


@app.command(sort_key=8)
def compare(*runs: Runs, json: Json = False, markdown: Annotated[bool, Parameter(negative=())] = False) -> None:
    """Set runs side by side: accuracy with its interval, MACs, parameters, size and forward time."""
    from ..compare import compare as work

    found = work(_some(runs))
    say(found.as_json() if json else found.as_markdown() if markdown else found.as_text())


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
    from ..compare import choose as work
    from ..compare import compare as side_by_side

    choice = work(side_by_side(_some(runs)), _limits(budget))
    say(choice.as_json() if json else choice.as_text())
    if choice.pick is None:
        raise ConvAtlasError("no measured run fits the budget; raise a limit or train a smaller network")


@app.command(sort_key=10)
def report(
    *runs: Runs,
    out: Annotated[Path, Parameter(help="The HTML file to write.")] = Path("report.html"),
    budget: Budget = Budget(),
) -> None:
    """Write the comparison as one HTML page that opens offline: charts, tables, curves, commands."""
    from ..compare import choose as pick
    from ..compare import compare as side_by_side
    from ..report import report as work

    found = side_by_side(_some(runs))
    limits = _limits(budget)
    choice = pick(found, limits) if found.comparable else None
    say(str(work(found, out, choice=choice)))


def _limits(budget: Budget) -> "Limits":
    from ..compare import Limits

    return Limits(max_ms=budget.max_ms, max_mb=budget.max_mb, min_accuracy=budget.min_accuracy, batch=budget.batch)


def _some(runs: Sequence[Path]) -> Sequence[Path]:
    if not runs:
        raise UsageError("no run folder given; name one or more, for example runs/*")
    return runs
