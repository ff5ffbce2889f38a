"""The main job on the embedded digits, by the same commands that a user would type."""

import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from . import units
from .errors import RunFailed

# So few steps do not settle at the paper's rate of 0.1: between seeds, 105 to 142 of 145 validation images.
SHORT = (
    *("--set", "iterations=none", "--set", "epochs=8", "--set", "drops=5,7", "--set", "batch=64", "--set", "lr=0.03"),
)
TRAINED = {"lenet5_relu": (), "plain20_cifar": SHORT, "resnet20_cifar": SHORT}


def demo(out: Path, run: Callable[[Sequence[str]], int]) -> None:
    """Run every step under `out`, printing each command before it; `run` is the command's own entry point.

    A demo that was stopped goes on where it was. Raises RunFailed when a step fails.
    """
    begin = time.monotonic()
    typed: list[str] = []

    def step(*line: str | Path) -> None:
        words = [str(word) for word in line]
        typed.append(f"convatlas {shlex.join(words)}")
        print(f"\n$ {typed[-1]}", flush=True)
        code = run(words)
        if code:
            raise RunFailed(f"the demo stopped at `{typed[-1]}` with exit code {code}")

    print("The CIFAR networks train for 8 epochs here; their paper gives them 64,000 iterations.")
    runs = {network: out / network for network in TRAINED}
    step("check-data", "digits")
    for network, options in TRAINED.items():
        step("train", network, "digits", "--out", runs[network], *options, "--resume")
    step("measure", *runs.values(), "--archive", out / "results", "--no-memory")
    step("compare", *runs.values())
    step("choose", *runs.values(), "--max-ms", "20", "--max-mb", "2")
    bundle = out / "bundle"
    if not bundle.exists():
        step("export", runs["lenet5_relu"], "--to", "onnx", "--out", bundle)
    picture = min((bundle / "replay").glob("*.png"))
    step("predict", bundle, picture)
    page = out / "report.html"
    step("report", *runs.values(), "--out", page, "--max-ms", "20", "--max-mb", "2")
    print(f"\nThe demo took {units.seconds(time.monotonic() - begin)}. These commands ran:", *typed, sep="\n  ")
    print(f"\nThe report: {page.resolve()}")
    sys.stdout.flush()
