"""Predicted against measured forward time over the catalogue, on the CPU, by our torch path.

    python benchmarks/prediction.py [--networks vgg16,resnet50] [--all] [--batches 1,8] [--rounds 5] [--seconds 60]
                                    [--calibration FILE] [--json FILE]

Calibrates this machine, then measures catalogue networks at their own input and predicts each from its table. Those
that the calibration ran are marked: the figure is over the others. Without --networks or --all, one or two of each
paper are measured, none of more than 8 GMACs, which takes a few minutes on one core. A busy machine makes
all times wrong.
"""

import argparse
from collections.abc import Sequence
from math import exp, log
from pathlib import Path
from time import perf_counter, process_time

import numpy as np
import torch
from harness import machine_line

from convatlas import files, units
from convatlas.catalogue import catalogue, table
from convatlas.compare.prediction import Calibration, fit, predict, read, save
from convatlas.engines import open_engine
from convatlas.layout import Cell, Column, text
from convatlas.measure.calibration import CASES, ENGINE, calibrate, opened
from convatlas.measure.rounds import Point, images
from convatlas.record import to_json

LARGEST = 8e9  # MACs of a network that is measured without being asked for
CALIBRATED = {case.split(":")[0] for case in CASES}


def usual() -> list[str]:
    """The smallest and the median network of each paper, by MACs."""
    families: dict[str, list[str]] = {}
    for name, entry in sorted(catalogue().networks.items(), key=lambda item: item[1].macs):
        if entry.classes and entry.macs <= LARGEST:
            families.setdefault(entry.paper, []).append(name)
    return [name for names in families.values() for name in dict.fromkeys((names[0], names[len(names) // 2]))]


def measured(name: str, batches: Sequence[int], rounds: int) -> list[Point]:
    """Calls of one network, the batch sizes in turns, after a warm-up."""
    net, shape = opened(name, catalogue().networks[name].input[1])
    engine = open_engine(ENGINE, net, shape)
    points = [Point(batch, engine.ready(images(batch, shape))) for batch in batches]
    for point in points:
        point.warm_up(1.0)
    for _ in range(rounds):
        for point in points:
            point.slice(0.1)
    engine.close()
    return points


def compared(names: Sequence[str], batches: Sequence[int], rounds: int, calibration: Calibration) -> list[dict]:
    found = []
    for name in names:
        own = table(name)
        for point in measured(name, batches, rounds):
            timing = point.timing()
            guess = predict(own, calibration, point.batch)
            line = {"network": name, "batch": point.batch, "ms": timing.median_ms, "predicted_ms": guess.ms}
            found.append({**line, "repeats": timing.repeats, "calibrated": name in CALIBRATED})
            print(f"{name}, batch {point.batch}: {timing.median_ms:.2f} ms, predicted {guess.ms:.2f} ms", flush=True)
    return found


def error(lines: Sequence[dict]) -> str:
    """Median and 90 % quantile of |log(predicted / measured)|, as per cents of the shorter of both."""
    if not lines:
        return "none"
    logs = [abs(log(line["predicted_ms"] / line["ms"])) for line in lines]
    middle, most = np.quantile(logs, (0.5, 0.9))
    return f"median {100 * (exp(middle) - 1):.1f} %, 90 % quantile {100 * (exp(most) - 1):.1f} %, {len(lines)} times"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", default="")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--batches", default="1,8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--calibration", type=Path)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    batches = [int(b) for b in given.batches.split(",")]
    every = [name for name, entry in catalogue().networks.items() if entry.classes]
    names = given.networks.split(",") if given.networks else every if given.all else usual()
    print(f"{machine_line()}; {torch.get_num_threads()} threads\n")
    calibration = read(given.calibration) if given.calibration else None
    if calibration is None:
        calibration = fit(calibrate(given.seconds, lambda words: print(words, flush=True)))
        if given.calibration:
            save(calibration, given.calibration)
    print(f"\n{calibration.as_text()}\n")
    begin, busy = perf_counter(), process_time()
    lines = compared(names, batches, given.rounds, calibration)
    share = (process_time() - busy) / (perf_counter() - begin)
    columns = [Column("network"), *(Column(c, True) for c in ("batch", "measured", "predicted", "off")), Column("")]
    rows: list[list[Cell]] = [
        [
            line["network"],
            line["batch"],
            *map(units.milliseconds, (line["ms"], line["predicted_ms"])),
            f"{100 * (line['predicted_ms'] / line['ms'] - 1):+.0f} %",
            "calibrated, at another size" if line["calibrated"] else None,
        ]
        for line in lines
    ]
    print(f"\n{text(columns, rows)}\n")
    print(f"not calibrated on: {error([line for line in lines if not line['calibrated']])}")
    print(f"all: {error(lines)}")
    print(f"{units.seconds(perf_counter() - begin)}; this process had a processor {100 * share:.0f} % of the time")
    if given.json:
        files.write(given.json, to_json(lines, indent=1) + "\n")


if __name__ == "__main__":
    main()
