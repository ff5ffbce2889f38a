"""From runs to a choice: compare, choose, report."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ..errors import ConvAtlasError, UsageError
from .app import Json, app, say

if TYPE_CHECKING:
    from ..compare import Comparison, Limits

Sources = Annotated[
    str,
    Parameter(
        help="Run folders; archives of `measure` (results/ or a .jsonl file); catalogue networks; "
        "published:NETWORK, or published for all of them."
    ),
]


@Parameter(name="*")
@dataclass(frozen=True)
class GateOptions:
    """How much worse B may be than A."""

    gate: Annotated[bool, Parameter(negative=(), help="Of A and B: exit 1 when B is worse.")] = False
    max_drop: Annotated[float | None, Parameter(help="Accuracy that B may lose, as a share of one. [usual: 0]")] = None
    max_slower: Annotated[float | None, Parameter(help="Times A's forward time that B may take. [usual: 1.1]")] = None
    max_larger: Annotated[float | None, Parameter(help="Times A's weights that B may have. [usual: 1]")] = None
    batch: Annotated[int | None, Parameter(help="Batch size that --max-slower is about. [usual: 1]")] = None


@app.command(sort_key=8)
def compare(
    *sources: Sources,
    options: GateOptions = GateOptions(),
    json: Json = False,
    markdown: Annotated[bool, Parameter(negative=())] = False,
) -> None:
    """Set runs side by side, and say whether one is better than another.

    Examples:
        convatlas compare runs/*
        convatlas compare runs/a runs/b
        convatlas compare runs/* results/ resnet18 published:resnet18
        convatlas compare runs/old runs/new --gate --max-drop 0.01

    Accuracies have their 95 % interval. Two runs that answered the same images
    are compared image by image: McNemar's exact test and a bootstrap interval
    of the difference, per class too. With --gate, B fails that is less accurate
    beyond the interval, slower or larger than allowed; a check without figures
    fails only where its limit is given.
    """
    from ..compare import compare as work

    found = work(_some(sources))
    if options.gate:
        _gate(found, options, json)
        return
    given = [f.name for f in fields(options) if f.name != "gate" and getattr(options, f.name) is not None]
    if given:
        raise UsageError(f"--{given[0].replace('_', '-')} is an option of --gate; add --gate, or leave it out")
    say(found.as_json() if json else found.as_markdown() if markdown else found.as_text())


def _gate(found: "Comparison", options: GateOptions, json: bool) -> None:
    from ..compare import Allowed, gate

    if len(found.entries) != 2:
        raise UsageError(f"--gate takes two runs, A and B; got {len(found.entries)}")
    batch = 1 if options.batch is None else options.batch
    result = gate(*found.entries, Allowed(options.max_drop, options.max_slower, options.max_larger, batch))
    say(result.as_json() if json else result.as_text())
    if not result.passed:
        raise ConvAtlasError(f"{result.b} does not pass the gate: {result.failed}")


@Parameter(name="*")
@dataclass(frozen=True)
class Budget:
    """What the classifier may cost."""

    max_ms: Annotated[float | None, Parameter(help="Forward time of one batch, median, in milliseconds.")] = None
    max_mb: Annotated[float | None, Parameter(help="Size of the weights in megabytes (10^6 bytes).")] = None
    max_joule: Annotated[float | None, Parameter(help="Energy of one batch, above idle, in joules.")] = None
    max_memory_mb: Annotated[float | None, Parameter(help="Peak memory of the process, in 10^6 bytes.")] = None
    min_accuracy: Annotated[float | None, Parameter(help="Top-1 as a share of one, for example 0.9.")] = None
    batch: Annotated[int, Parameter(help="Images in the batch that time, energy and memory are of.")] = 1


@Parameter(name="*")
@dataclass(frozen=True)
class Before:
    """Before any training: what to try on a data set."""

    time: Annotated[str | None, Parameter(help="Time for training, like 90s, 30m or 2h; the source is then data.")] = (
        None
    )
    archive: Annotated[Path, Parameter(help="Folder that keeps the calibration of this machine.")] = Path("results")
    recalibrate: Annotated[bool, Parameter(negative=(), help="Measure this machine anew for --time.")] = False


@app.command(sort_key=9)
def choose(*sources: Sources, budget: Budget = Budget(), before: Before = Before(), json: Json = False) -> None:
    """Name the best measured run under a budget and say what was given up. Exit 1 when none fits.

    Examples:
        convatlas choose runs/* --max-ms 20 --max-mb 50 --min-accuracy 0.9
        convatlas choose runs/* results/ --max-ms 100 --batch 16 --max-joule 2
        convatlas choose photos/ --time 30m

    The fastest engine that was measured counts, and is named. A run without a
    figure that a limit asks for is never chosen. With --time nothing has to be
    trained yet: the networks to try on that data are ranked by predicted cost.
    """
    if before.time is not None:
        _propose(sources, budget, before, before.time, json)
        return
    from ..compare import choose as work
    from ..compare import compare as side_by_side

    choice = work(side_by_side(_some(sources)), _limits(budget))
    say(choice.as_json() if json else choice.as_text())
    if choice.pick is None:
        raise ConvAtlasError("no measured run fits the budget; raise a limit or train a smaller network")


def _propose(sources: Sequence[str], budget: Budget, before: Before, time: str, json: bool) -> None:
    from .proposing import propose

    if len(sources) != 1:
        raise UsageError(f"--time asks what to train on one data set; got {len(sources)} sources")
    if budget != Budget():
        limit = next(f.name for f in fields(budget) if getattr(budget, f.name) != f.default)
        raise UsageError(f"--{limit.replace('_', '-')} is about measured runs; leave it out with --time")
    propose(sources[0], time, before.archive, before.recalibrate, json)


@app.command(sort_key=10)
def report(
    *sources: Sources,
    out: Annotated[Path, Parameter(help="The HTML file to write.")] = Path("report.html"),
    budget: Budget = Budget(),
    lang: Annotated[str, Parameter(help="Language of the page: en or zh.")] = "en",
    charts: Annotated[Path | None, Parameter(help="Folder for each chart as PNG, SVG and PDF.")] = None,
    pictures: Annotated[bool, Parameter(help="Small pictures of the worst mistakes, where the data is.")] = True,
    lecture: Annotated[bool, Parameter(negative=(), help="The lecture's tables and charts instead of runs.")] = False,
) -> None:
    """Write the comparison as one HTML page that opens offline: charts, tables, curves, commands."""
    if lecture:
        from .lecturing import lecture as lecture_page

        if sources:
            raise UsageError(f"--lecture takes no runs; got {len(sources)}")
        lecture_page(out, lang)
        return
    from ..compare import choose as pick
    from ..compare import compare as side_by_side
    from ..report import report as work

    found = side_by_side(_some(sources))
    limits = _limits(budget)
    choice = pick(found, limits) if found.comparable else None
    say(str(work(found, out, choice=choice, language=lang, charts=charts, pictures=pictures)))


def _limits(budget: Budget) -> "Limits":
    from ..compare import Limits

    return Limits(**{f.name: getattr(budget, f.name) for f in fields(budget)})


def _some(sources: Sequence[str]) -> Sequence[str]:
    if not sources:
        raise UsageError("no run folder given; name one or more, for example runs/*")
    return sources
