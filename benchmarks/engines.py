"""Engines against torchvision's eager forward, in turns in one run.

    python benchmarks/engines.py [--networks alexnet,vgg16,googlenet,resnet50] [--batches 1,16] [--rounds 7]
                                 [--engines torch,compile,onnxruntime,openvino] [--precision fp32] [--threads N]

torchvision's own networks (AlexNet of one tower, VGG-16, GoogLeNet with batch norm, ResNet-50 v1.5) at 224x224 with
random weights, contiguous and as they come, in inference mode: that is "torchvision eager". Every side lives in a
process of its own, since how a process keeps its memory and its threads is the process's; they run one after the other
in every round, each one call to warm up and one that is timed. Prints medians with quartiles, ratios turn by turn, and
the geometric means over all rows: of our torch path (goal 1.4) and of the fastest engine of each row (goal 1.8).
"""

import argparse
import gc
import multiprocessing
from collections.abc import Callable
from math import exp, log
from multiprocessing.connection import Connection
from time import perf_counter
from typing import Any

import numpy as np
from harness import Spread, machine_line, ratio, spread

EAGER = "torchvision eager"
SHAPE = (3, 224, 224)
GOALS = {"torch": 1.4, "best": 1.8}


def torchvision_eager(net: Any, images: np.ndarray) -> Callable[[], object]:
    import torch

    placed = torch.from_numpy(images)

    def call() -> None:
        with torch.inference_mode():
            net(placed)

    return call


def serve(side: str, name: str, precision: str, threads: int, pipe: Connection) -> None:
    """One side in its own process: each batch size that comes in gives the milliseconds of one forward pass."""
    import torch
    import torchvision

    from convatlas.engines import open_engine

    torch.set_num_threads(threads)
    torch.manual_seed(0)
    more = {"init_weights": False} if name == "googlenet" else {}
    net = torchvision.models.get_model(name, weights=None, **more).eval()
    engine = None if side == EAGER else open_engine(side, net, SHAPE, precision=precision, threads=threads)
    about = "as it comes" if engine is None else engine.about
    if engine is not None:
        del net
    gc.collect()
    pipe.send(about)
    placed: dict[int, Callable[[], object]] = {}
    while (batch := pipe.recv()) is not None:
        if batch not in placed:
            images = np.random.default_rng(batch).standard_normal((batch, *SHAPE), np.float32)
            placed = {batch: engine.ready(images) if engine else torchvision_eager(net, images)}
            placed[batch]()
        placed[batch]()
        begin = perf_counter()
        placed[batch]()
        pipe.send(1000 * (perf_counter() - begin))


class Side:
    """The parent's end of one process."""

    def __init__(self, side: str, name: str, precision: str, threads: int):
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(side, name, precision, threads, theirs), daemon=True)
        self.process.start()
        theirs.close()
        self.about = self.pipe.recv()

    def time(self, batch: int) -> float:
        self.pipe.send(batch)
        return float(self.pipe.recv())

    def close(self) -> None:
        self.pipe.send(None)
        self.process.join()


def geometric(values: list[float]) -> float:
    return exp(sum(map(log, values)) / len(values))


def row(sides: dict[str, Side], batch: int, rounds: int) -> dict[str, list[float]]:
    for side in sides.values():
        side.time(batch)
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            times[name].append(side.time(batch))
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--networks", default="alexnet,vgg16,googlenet,resnet50")
    parser.add_argument("--batches", default="1,16")
    parser.add_argument("--engines", default="torch,compile,onnxruntime,openvino")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=int, default=multiprocessing.cpu_count())
    given = parser.parse_args()

    from convatlas.engines import precisions

    engines = [e for e in given.engines.split(",") if given.precision in precisions(e, "cpu")]
    print(machine_line("onnxruntime", "openvino"), f"{given.threads} threads", given.precision, sep="; ")
    gained: dict[str, list[Spread]] = {name: [] for name in (*engines, "best")}
    for name in given.networks.split(","):
        opened = {s: Side(s, name, given.precision, given.threads) for s in (EAGER, *engines)}
        for batch in map(int, given.batches.split(",")):
            times = row(opened, batch, given.rounds)
            print(f"\n{name}, batch {batch}, milliseconds a pass:")
            for side, taken in times.items():
                times_faster = ratio(times[EAGER], taken)
                print(f"  {side:18} {spread(taken)!s:36} {times_faster!s:24} {opened[side].about}", flush=True)
                if side != EAGER:
                    gained[side].append(times_faster)
            gained["best"].append(max((gained[e][-1] for e in engines), key=lambda found: found.median))
        for side in opened.values():
            side.close()
    print("\ntimes as fast as torchvision eager, geometric means over the rows (of first quartiles, of third):")
    for name, found in gained.items():
        low, middle, high = (geometric([getattr(s, part) for s in found]) for part in ("low", "median", "high"))
        goal = f"; goal {GOALS[name]}" if name in GOALS else ""
        print(f"  {name:18} {middle:.2f} ({low:.2f} to {high:.2f}){goal}")


if __name__ == "__main__":
    main()
