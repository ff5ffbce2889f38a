"""What this machine takes for a spread of small networks and layers: what predictions for all others are fitted to."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from time import perf_counter, process_time

import torch
import torch.nn.functional as F
from torch import nn

from ..account import account
from ..engines import open_engine
from ..layers import drop_heads
from ..memory.kept import kept_memory
from ..networks import NETWORKS, build
from ..result import Machine, Timing, this_machine, versions
from ..table import Table
from .rounds import Point, images, in_rounds

ENGINE = "torch"
BATCHES = (1, 8)
SEED = 0
# Every kind of operation of the catalogue in two networks at least, at sizes at which a call takes up to 0.3 s.
CASES = (
    *(
        "lenet5:32",
        "lenet5_relu:32",
        "nin_cifar:32",
        "resnet20_cifar:32",
        "densenet40_k12_cifar:32",
        "wrn16_8_cifar:32",
    ),
    *("densenet_bc100_k12_cifar:32", "alexnet:112", "alexnet_owt:224", "zfnet:112", "nin:112", "vgg11:64"),
    *("vgg13_bn:64", "squeezenet1_0:112", "squeezenet1_1:224", "googlenet:112", "googlenet_bn:112", "inception_v3:112"),
    *("resnet18:112", "resnet34:64", "resnet50:112", "preresnet50:64", "resnext50_32x4d:112", "densenet121:112"),
    *("enet:112", "one_7x7:28", "bottleneck_block:28", "inception_naive:28"),
)
# With and without batch norm, whose backward pass costs otherwise, at batches that trainings use.
STEPS = ("lenet5_relu:32:64", "squeezenet1_1:112:8", "vgg11:64:8", "resnet20_cifar:32:32", "googlenet_bn:112:8")


@dataclass(frozen=True)
class Forward:
    """A network's account at the size that was run, and the time of its forward pass at one batch size."""

    table: Table
    timing: Timing


@dataclass(frozen=True)
class Step:
    """Parts of one update of the weights, medians in milliseconds."""

    network: str
    input: tuple[int, int, int]
    batch: int
    params: int
    normalised: bool  # has batch norm
    forward_ms: float  # of the same batch through the engine
    gradients_ms: float  # forward in training mode, loss and backward pass
    update_ms: float  # SGD with momentum and weight decay


@dataclass(frozen=True)
class Measured:
    machine: Machine
    versions: dict[str, str]
    engine: str
    seconds: float  # that all of it took
    processor: float  # share of that time in which this process had a processor; well under 1: others were at work
    forwards: tuple[Forward, ...]
    steps: tuple[Step, ...]


def calibrate(
    seconds: float = 60.0,
    progress: Callable[[str], None] | None = None,
    *,
    cases: Sequence[str] = CASES,
    steps: Sequence[str] = STEPS,
) -> Measured:
    """Times networks at batch 1 and 8 on the CPU in fp32, with random weights, and whole training steps of a few.

    `cases` are NETWORK:SIZE, `steps` NETWORK:SIZE:BATCH. All forward passes take turns, so that a drift of the machine
    falls on all alike; then all steps do. `seconds` is a wish: every case is called a few times whatever it takes.
    """
    say = progress or (lambda _: None)
    begin, busy = perf_counter(), process_time()
    with kept_memory():
        found = _forwards(cases, seconds, say)
        parts = _steps(steps, seconds, say)
    taken = perf_counter() - begin
    machine = this_machine("cpu", torch.get_num_threads())
    share = min(1.0, (process_time() - busy) / taken)
    return Measured(machine, versions(("torch", "numpy")), ENGINE, taken, share, found, parts)


def opened(name: str, size: int) -> tuple[nn.Module, tuple[int, int, int]]:
    """A catalogue network in evaluation mode without auxiliary heads, at a size, and its input.

    Behind a module of a network, which gives maps, stands a global average pooling: engines take what gives logits.
    """
    shape = NETWORKS[name].input[0], size, size
    net = build(name, input=shape[1:], seed=SEED)
    drop_heads(net)
    whole = net if NETWORKS[name].classes else nn.Sequential(net, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return whole.eval(), shape


def _forwards(cases: Sequence[str], seconds: float, say: Callable[[str], None]) -> tuple[Forward, ...]:
    found: list[tuple[Table, Point]] = []
    share = 0.35 * seconds / max(1, len(cases) * len(BATCHES))
    with ExitStack() as stack:
        for case in cases:
            say(f"warming up {case}")
            name, size = case.split(":")
            net, shape = opened(name, int(size))
            table = account(net, shape, name=name)
            engine = open_engine(ENGINE, net, shape)
            stack.callback(engine.close)
            for batch in BATCHES:
                point = Point(batch, engine.ready(images(batch, shape)))
                point.warm_up(share)
                found.append((table, point))
        in_rounds([point for _, point in found], share, say)
    return tuple(Forward(table, point.timing()) for table, point in found)


class _Training:
    """A network in training with its parts as calls."""

    def __init__(self, case: str):
        name, size, batch = case.split(":")
        self.name, self.batch = name, int(batch)
        net, self.shape = opened(name, int(size))
        given = images(self.batch, self.shape)
        engine = open_engine(ENGINE, net, self.shape)
        self.close = engine.close
        self.forward = Point(self.batch, engine.ready(given))
        self.net = net.train().to(memory_format=torch.channels_last)
        self.images = torch.from_numpy(given).contiguous(memory_format=torch.channels_last)
        self.labels = torch.zeros(self.batch, dtype=torch.int64)
        self.optimiser = torch.optim.SGD(net.parameters(), 1e-6, momentum=0.9, weight_decay=1e-4)
        self.gradients = Point(self.batch, self._gradients)
        self.update = Point(self.batch, self.optimiser.step)

    @property
    def points(self) -> tuple[Point, ...]:
        return self.forward, self.gradients, self.update

    def _gradients(self) -> None:
        self.optimiser.zero_grad(set_to_none=True)
        F.cross_entropy(self.net(self.images), self.labels).backward()

    def result(self) -> Step:
        forward, gradients, update = (p.timing().median_ms for p in self.points)
        params = sum(p.numel() for p in self.net.parameters())
        normalised = any(isinstance(m, nn.BatchNorm2d) for m in self.net.modules())
        return Step(self.name, self.shape, self.batch, params, normalised, forward, gradients, update)


def _steps(cases: Sequence[str], seconds: float, say: Callable[[str], None]) -> tuple[Step, ...]:
    trainings = []
    for case in cases:
        say(f"warming up a training step of {case}")
        trainings.append(_Training(case))
    points = [point for training in trainings for point in training.points]
    share = 0.15 * seconds / max(1, len(points))
    for point in points:
        point.warm_up(share)
    in_rounds(points, share, say)
    for training in trainings:
        training.close()
    return tuple(training.result() for training in trainings)
