"""What building costs: without memory (milliseconds), and for real against drawing the weights alone.

    python benchmarks/build.py [--repeats N] [NETWORK ...]

"drawing" draws every weight of the built network again by its paper's rule: the part of a build that cannot be saved.
"""

import argparse
from functools import partial

import torch
from harness import in_turns, machine_line, ratio, spread

from convatlas.catalogue import catalogue
from convatlas.networks import NETWORKS, build

SHOWN = ("lenet5", "alexnet", "vgg16", "googlenet", "inception_v3", "resnet50", "densenet121", "resnet1202_cifar")


def on_meta(name: str) -> None:
    with torch.device("meta"):
        build(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("networks", nargs="*", default=SHOWN, metavar="NETWORK")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--all", action="store_true", help="every network of the catalogue, without memory only")
    options = parser.parse_args()
    print(machine_line())
    print("median (quartiles)")
    if options.all:
        times = in_turns({name: partial(on_meta, name) for name in NETWORKS}, options.repeats)
        slowest = sorted(times, key=lambda name: -spread(times[name]).median)
        for name in slowest[:10]:
            print(f"  {name}: {spread(times[name])} ms without memory, depth {catalogue().networks[name].depth}")
        return
    for name in options.networks:
        net = build(name)
        sides = {
            "meta": partial(on_meta, name),
            "real": partial(build, name),
            "drawing": partial(NETWORKS[name].initialise, net),
        }
        times = in_turns(sides, options.repeats)
        print(
            f"  {name}: without memory {spread(times['meta'])} ms, for real {spread(times['real'])} ms, "
            f"{ratio(times['real'], times['drawing'])} times the drawing alone"
        )


if __name__ == "__main__":
    main()
