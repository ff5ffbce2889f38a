"""A training step of ours against torchvision's reference loop and one written by hand, in turns in one process.

    python benchmarks/train.py [--network resnet18] [--batch 32] [--size 224] [--rounds 7] [--precision bf16]

The reference loop is what torchvision's classification script does in a step: default memory layout, cross entropy,
SGD with momentum and weight decay, top-1 and top-5 and the loss read for its log. By hand means the same in
channels_last with memory that is kept between steps, and nothing read. All three start from the same weights of
torchvision's network, or of ours where torchvision has none. Prints medians, quartiles and ratios.
"""

import argparse
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
from harness import in_turns, machine_line, ratio, spread
from torch import nn

from convatlas.data.augment import parse
from convatlas.data.loader import Batch
from convatlas.memory.kept import kept_memory
from convatlas.networks import build
from convatlas.paper import Recipe
from convatlas.train.processes import Processes
from convatlas.train.updating import optimisers
from convatlas.train.updating.step import PRECISIONS, Stepper

CLASSES = 1000


def cast(precision: str) -> AbstractContextManager[None]:
    return torch.autocast("cpu", dtype=PRECISIONS[precision], enabled=precision != "fp32")


def network(name: str, size: int) -> nn.Module:
    import torchvision

    try:
        return torchvision.models.get_model(name, weights=None)
    except ValueError:
        return build(name, input=(size, size))


def reference(net: nn.Module, batch: Batch, precision: str) -> Callable[[], object]:
    criterion = nn.CrossEntropyLoss()
    optimiser = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)

    def step() -> None:
        with cast(precision):
            output = net(batch.images)
            loss = criterion(output, batch.labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        right = output.topk(5).indices == batch.labels[:, None]
        right[:, 0].sum().item(), right.sum().item(), loss.item()

    return step


def by_hand(net: nn.Module, batch: Batch, precision: str) -> Callable[[], object]:
    net = net.to(memory_format=torch.channels_last)
    images = batch.images.to(memory_format=torch.channels_last)
    optimiser = torch.optim.SGD(net.parameters(), 0.01, momentum=0.9, weight_decay=1e-4)

    def step() -> None:
        with cast(precision):
            loss = nn.functional.cross_entropy(net(images), batch.labels)
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)

    return step


def ours(net: nn.Module, batch: Batch, precision: str) -> Callable[[], object]:
    net = net.to(memory_format=torch.channels_last).train()
    recipe = Recipe(batch=len(batch.labels), lr=0.01, weight_decay=1e-4, precision=precision)  # type: ignore[arg-type]
    stepper = Stepper(
        net, optimisers.make(net, recipe), recipe, parse(()), torch.device("cpu"), Processes(), 0, CLASSES
    )
    channels_last = batch._replace(images=batch.images.to(memory_format=torch.channels_last))
    number = 0

    def step() -> None:
        nonlocal number
        stepper.step(channels_last, 0.01, number, 1)
        number += 1

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--network", default="resnet18")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--precision", default="fp32", choices=PRECISIONS)
    given = parser.parse_args()
    torch.manual_seed(0)
    images = torch.randn(given.batch, 3, given.size, given.size)
    batch = Batch(images, torch.randint(0, CLASSES, (given.batch,)), (), 0, given.batch)
    nets = [network(given.network, given.size) for _ in range(3)]
    for net in nets[1:]:
        net.load_state_dict(nets[0].state_dict())
    makers = {"convatlas": ours, "torchvision's reference loop": reference, "by hand, channels_last": by_hand}
    sides = {name: make(net, batch, given.precision) for (name, make), net in zip(makers.items(), nets, strict=True)}
    print(machine_line(), f"{torch.get_num_threads()} threads", sep="; ")
    print(f"{given.network}, batch {given.batch}, {given.size}x{given.size}, {given.precision}, milliseconds a step:")
    times = in_turns(sides, given.rounds, around=dict.fromkeys(("convatlas", "by hand, channels_last"), kept_memory))
    for name, taken in times.items():
        print(f"  {name:30} {spread(taken)}; convatlas is {ratio(taken, times['convatlas'])} times as fast")


if __name__ == "__main__":
    main()
