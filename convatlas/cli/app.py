"""What all verbs share: the application, common parameters, and how they speak."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter

from ..version import __version__

HELP = """From a folder of labelled photos to a chosen, trained, verified, exportable classifier.

    convatlas check-data photos/
    convatlas train resnet18 photos/ --recipe small --out runs/resnet18
    convatlas measure runs/resnet18
    convatlas report runs/* --out report.html
    convatlas export runs/resnet18 --to onnx --out bundle
    convatlas predict bundle photo.jpg

    convatlas experiment rate resnet18 photos/ --set size=112 --set batch=16
    convatlas features runs/resnet18 photos/ --layer pool5 --probe
"""
app = App(name="convatlas", version=__version__, help=HELP, help_format="plaintext", version_flags=["--version"])

Json = Annotated[bool, Parameter(name="--json", negative=(), help="Answer as JSON.")]
Device = Annotated[str, Parameter(help="cpu, cuda, mps; auto takes the accelerator if there is one.")]
Runs = Annotated[Path, Parameter(help="Run folders, as `train --out` made them.")]
DATA = (
    "`digits`; a folder: images (train/ validation/ test/, or one folder a class), IDX, CIFAR, shards, packed, or "
    "saved by datasets; a CSV file of path and label; or the http(s) address of shards."
)


def say(answer: str) -> None:
    print(answer)


@contextmanager
def busy(what: str) -> Iterator[Callable[[str], None]]:
    """A line on stderr that moves while work goes on, on a terminal only; gives what changes its words."""
    from rich.console import Console

    with Console(stderr=True).status(what) as status:
        yield lambda words: status.update(f"{what}: {words}")


def next_step(*commands: str) -> None:
    """What one would type now; talk, so on stderr."""
    for command in commands:
        print(f"next: {command}", file=sys.stderr)
