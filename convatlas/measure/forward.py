"""Forward time of a network by batch size, with its spread.

The method follows the forward-time charts of Canziani, Paszke and Culurciello (2017, arXiv 1605.07678): evaluation mode,
batch sizes in powers of two, a missing point where memory does not suffice.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import quantiles
from time import perf_counter

import torch
from torch import Tensor, nn

from .. import classifier, files, units
from ..account import account
from ..errors import UnknownName, UsageError
from ..layout import Column, text
from ..networks import NETWORKS, build
from ..result import Result, Timing, command, lines, now, this_machine, versions

BATCHES = (1, 2, 4, 8, 16, 32, 64)
ROUNDS = 10  # every batch size gets a slice of each round, so that a drift of the machine falls on all alike
FEW = 3  # rounds that are enough for a curve that has taken PATIENCE times its budget
PATIENCE = 5
STEADY = 1.1  # warm-up ends with a call that is at most this much slower than the fastest so far
WARM_UP = 3
SEED = 0


def measure(
    source: str | Path,
    *,
    batches: Sequence[int] = BATCHES,
    device: str = "auto",
    seconds: float = 1.0,
    progress: Callable[[str], None] | None = None,
) -> Result:
    """The forward time of a catalogue network (random weights), a run folder or a bundle, batch size by batch size.

    `seconds` is the time that each batch size may take; a call that is longer is made all the same. A batch size that
    does not fit the memory ends the curve, and `method` says so. `progress` is told each step in words. Raises
    UsageError for a batch size, a device or a source that does not exist, and what `classifier.load` raises.
    """
    sizes = sorted(set(batches))
    if not sizes or sizes[0] < 1:
        raise UsageError(f"batch sizes {', '.join(map(str, batches)) or '(none)'}; give whole numbers from 1 up, like 1,8,64")
    if not seconds > 0:
        raise UsageError(f"{seconds:g} seconds a batch size; give a time above 0")
    place = choose_device(device)
    name, net, shape = _open(source)
    size = sum(t.numel() * t.element_size() for t in net.state_dict().values())
    totals = account(net, shape, name=name).totals
    net = net.eval().to(place)
    if shape[0] == 3:
        net = net.to(memory_format=torch.channels_last)
    curve = _Curve(net, shape, place, seconds)
    curve.run(sizes, progress or (lambda _: None))
    return Result(
        kind="measurement",
        network=name,
        input=shape,
        classes=_classes(net, shape, place),
        params=totals.params,
        macs=totals.macs,
        machine=this_machine(_device_name(place), torch.get_num_threads()),
        versions=versions(),
        when=now(),
        command=command(),
        method=curve.method(),
        weights_bytes=size,
        timings=curve.timings(),
    )
