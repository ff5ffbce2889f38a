"""What a classifier costs on this machine: measure."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ..errors import UsageError
from .app import Device, Json, app, busy, say

if TYPE_CHECKING:
    from ..measure import Measured


@Parameter(name="*")
@dataclass(frozen=True)
class Cases:
    """What is measured of each source, and how long."""

    batch: Annotated[str, Parameter(help="Batch sizes, separated by commas.")] = "1,2,4,8,16,32,64"
    engines: Annotated[
        str, Parameter(help="eager, torch, compile, onnxruntime, openvino, separated by commas; all: those at hand.")
    ] = "torch"
    precisions: Annotated[
        str, Parameter(help="fp32, bf16, fp16, separated by commas; one that the device has not is left out.")
    ] = "fp32"
    threads: Annotated[int | None, Parameter(help="Of the network's operations; as many as torch takes.")] = None
    device: Device = "auto"
    seconds: Annotated[float, Parameter(help="Time for each batch size; a longer call is made all the same.")] = 1.0
    memory: Annotated[bool, Parameter(help="Peak memory, from a fresh process for each batch size.")] = True


@app.command(sort_key=7)
def measure(
    *sources: Annotated[str, Parameter(help="Networks of the catalogue, run folders or bundles.")],
    cases: Cases = Cases(),
    archive: Annotated[
        Path, Parameter(help="The folder whose measurements.jsonl grows by a line a case; none: no such file.")
    ] = Path("results"),
    json: Json = False,
) -> None:
    """Measure forward time, peak memory and energy by batch size and engine.

    For example

        convatlas measure resnet18
        convatlas measure runs/* --engines all
        convatlas measure resnet18 alexnet --engines eager,torch --batch 1,16
        convatlas measure runs/resnet18 --precisions fp32,bf16 --no-memory

    All cases take turns, so that a drift of the machine falls on all alike.
    What cannot run here, or cannot take a network, is named with its reason;
    a batch size that does not fit the memory ends that curve. Each case is one
    more line of results/measurements.jsonl, and what got more than 10 % slower
    than its last line on this machine is named. A run folder keeps its
    measurements for compare and report. --json gives one object a line.
    """
    from ..measure import measure as work
    from ..measure import record, summaries

    if not sources:
        raise UsageError(
            "nothing to measure; give a network, a run folder or a bundle, like `convatlas measure resnet18`"
        )
    batches = _batches(cases.batch)
    named = _words(cases.engines)
    with busy(f"measuring {', '.join(sources)}") as progress:
        found = work(
            list(dict.fromkeys(sources)),
            batches=batches,
            engines="all" if named == ["all"] else named,
            precisions=_words(cases.precisions),
            device=cases.device,
            seconds=cases.seconds,
            threads=cases.threads,
            memory=cases.memory,
            archive=None if str(archive) == "none" else archive,
            progress=progress,
        )
    for result in found:
        if (Path(result.source) / "checkpoints").is_dir():
            record(Path(result.source), result)
    for line in (*found.damaged, *map(str, found.left_out)):
        print(line, file=sys.stderr)
    say(_json(found) if json else summaries(found, found.slower))


def _batches(batch: str) -> tuple[int, ...]:
    try:
        batches = tuple(int(part) for part in batch.split(","))
        if min(batches) < 1:
            raise ValueError
    except ValueError:
        raise UsageError(f"--batch {batch!r} is no list of batch sizes; write whole numbers like 1,8,64") from None
    return batches


def _words(given: str) -> list[str]:
    return [word.strip() for word in given.split(",") if word.strip()]


def _json(found: "Measured") -> str:
    """A line a case: the archive's, and beside it what got slower."""
    from dataclasses import fields

    from ..record import to_json

    lines = []
    for result, slower in zip(found, found.slower, strict=True):
        own = {f.name: getattr(result, f.name) for f in fields(result)}
        lines.append(to_json({**own, "slower": slower}))
    return "\n".join(lines)
