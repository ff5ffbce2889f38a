"""What is kept of a training beside its last weights: their running average, and batch norm's statistics taken anew."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Average:
    """The exponential running average of a network's weights and statistics (Polyak and Juditsky 1992).

    average = decay average + (1 - decay) weights after each step. The decay is at most (1 + steps) / (10 + steps), as
    in TensorFlow's ExponentialMovingAverage, so that the first weights are soon forgotten. Counters stay the network's.
    """

    def __init__(self, net: nn.Module, decay: float, saved: dict[str, Tensor] | None = None):
        self.decay = decay
        self.aside: dict[str, Tensor] | None = None  # the network's own, while it has the averaged ones
        self.tensors = {name: t.detach().clone() for name, t in net.state_dict().items()}
        for name, tensor in (saved or {}).items():
            self.tensors[name].copy_(tensor)

    @torch.no_grad()
    def update(self, net: nn.Module, steps: int) -> None:
        """After the step of that number, counted from 1."""
        decay = min(self.decay, (1 + steps) / (10 + steps))
        own = net.state_dict()
        moving = [n for n, t in own.items() if t.is_floating_point()]
        torch._foreach_lerp_([self.tensors[n] for n in moving], [own[n] for n in moving], 1 - decay)
        for name in own.keys() - set(moving):
            self.tensors[name].copy_(own[name])

    @torch.no_grad()
    def take(self, net: nn.Module) -> None:
        """What the network has now becomes the average."""
        _copy(net.state_dict(), self.tensors)

    @contextmanager
    def in_place(self, net: nn.Module) -> Iterator[None]:
        """Lets the network have the averaged weights for a while."""
        own = net.state_dict()
        before = self.aside = {name: t.detach().clone() for name, t in own.items()}
        _copy(self.tensors, own)
        try:
            yield
        finally:
            _copy(before, own)
            self.aside = None


def _copy(source: dict[str, Tensor], target: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, tensor in source.items():
            target[name].copy_(tensor)


NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@contextmanager
def statistics_anew(net: nn.Module) -> Iterator[None]:
    """Whatever passes through the network inside sets batch norm's mean and variance: their plain average over batches.

    ResNet's authors did so after training ("strictly computed using average (not moving average)", the README of their
    released models). The network's modes come back at the end; weights do not change.
    """
    norms = [m for m in net.modules() if isinstance(m, NORMS) and m.track_running_stats]
    modes = {m: m.training for m in net.modules()}
    momenta = {m: m.momentum for m in norms}
    net.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # torch then takes the plain average of all batches
        norm.train()
    try:
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        for norm in norms:
            norm.momentum = momenta[norm]
