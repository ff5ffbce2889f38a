"""Measured forward times beside a hand-written loop of the same network, and peak memory beside the kernel's figure.

    python benchmarks/measure.py [NETWORK:BATCH ...] [--rounds 15] [--seconds 0.5] [--threads 1] [--memory]

Both sides take turns in one process: in each round ours is timed as `convatlas measure` times it (a slice of
`Point.slice` on the eager engine), then the loop written here in plain PyTorch runs as long. A round's ratio is the
quotient of its two medians, so a drift of the machine falls on both. With --memory the process that tells a peak
(VmHWM) is also waited for with wait4, which has the kernel's ru_maxrss of it.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch
from harness import machine_line, ratio, spread
from torch import nn

from convatlas import engines
from convatlas.measure import peak
from convatlas.measure.rounds import Point, images
from convatlas.measure.sources import open_source
from convatlas.record import from_json, to_json

CASES = tuple(f"{network}:{batch}" for network in ("resnet18", "alexnet", "googlenet") for batch in (1, 16))
ALLOWED = 0.03
WAITED = Path(__file__).with_name("waited.py")


def by_hand(net: nn.Module, x: torch.Tensor, seconds: float) -> float:
    """Median milliseconds of the calls of a plain loop; the first, after the other side's turn, is not counted."""
    taken = []
    with torch.inference_mode():
        net(x)
        end = time.perf_counter() + seconds
        while time.perf_counter() < end or not taken:
            begin = time.perf_counter()
            net(x)
            taken.append(1000 * (time.perf_counter() - begin))
    return median(taken)


def as_measured(point: Point, seconds: float) -> float:
    """Median milliseconds of one turn as `convatlas measure` takes it."""
    before = len(point.taken)
    point.once()
    point.slice(seconds)
    return 1000 * median(point.taken[before:])


def times(network: str, batch: int, options: argparse.Namespace) -> tuple[list[float], list[float]]:
    source = open_source(network)
    array = images(batch, source.shape)
    engine = engines.open_engine("eager", source.net, source.shape, device="cpu", threads=options.threads)
    point, x = Point(batch, engine.ready(array)), torch.from_numpy(array)
    point.warm_up(options.seconds)
    by_hand(source.net, x, 0)
    ours, hand = [], []
    for i in range(options.rounds):
        for side in ("ours", "hand") if i % 2 else ("hand", "ours"):  # neither is always the second
            if side == "ours":
                ours.append(as_measured(point, options.seconds))
            else:
                hand.append(by_hand(source.net, x, options.seconds))
    engine.close()
    return ours, hand


def kernels(network: str, batch: int, threads: int) -> tuple[int, int]:
    """Bytes: the peak that our process tells, and ru_maxrss of that process."""
    line, environment = peak.process()
    given = json.dumps([line, environment, to_json(peak.Case(network, "torch", "fp32", "cpu", threads, batch))])
    done = subprocess.run([sys.executable, "-S", str(WAITED), given], capture_output=True, text=True, check=True)
    said, _, highest = json.loads(done.stdout)
    found = from_json(peak.Peak, said.splitlines()[-1])
    if found.peak_bytes is None:
        raise SystemExit(f"{network}, batch {batch}: {found.reason}")
    return found.peak_bytes, highest


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", default=CASES)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--memory", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{machine_line()}; {options.threads} threads\n")
    print(
        "| network | batch | measured, ms | by hand, ms | measured / by hand | within 3 % |\n|---|--:|--:|--:|--:|---|"
    )
    for case in options.cases:
        network, batch = case.split(":")
        ours, hand = times(network, int(batch), options)
        found = ratio(ours, hand)
        close = "yes" if abs(found.median - 1) <= ALLOWED else "no"
        print(f"| {network} | {batch} | {spread(ours)} | {spread(hand)} | {found} | {close} |", flush=True)
    if options.memory:
        print("\n| network | batch | VmHWM, MB | ru_maxrss, MB | ratio |\n|---|--:|--:|--:|--:|")
        for case in options.cases:
            network, batch = case.split(":")
            told, highest = kernels(network, int(batch), options.threads)
            ratio_ = told / highest
            print(f"| {network} | {batch} | {told / 1e6:,.1f} | {highest / 1e6:,.1f} | {ratio_:.4f} |", flush=True)


if __name__ == "__main__":
    main()
