"""Optimisers against steps written out, and what a checkpoint keeps of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from convatlas import weights
from convatlas.errors import BadCheckpoint
from convatlas.paper import Recipe
from convatlas.train.updating import optimisers

RECIPES = {
    "sgd": Recipe(optimiser="sgd", lr=0.1, weight_decay=0.01),
    "nesterov": Recipe(optimiser="nesterov", lr=0.1, weight_decay=0.01),
    "rmsprop": Recipe(optimiser="rmsprop", lr=0.045, epsilon=1.0, weight_decay=0.01),
    "adamw": Recipe(optimiser="adamw", lr=0.01, decay=0.999, weight_decay=0.05),
}


def made(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).double()


def steps(net: nn.Module, optimiser: torch.optim.Optimizer, inputs: list[Tensor]) -> None:
    for x in inputs:
        net(x).square().sum().backward()
        optimiser.step()
        optimiser.zero_grad()


def rmsprop(w: np.ndarray, gradient: Callable[[np.ndarray], np.ndarray], steps: int) -> np.ndarray:
    """TensorFlow's RMSProp, by its documentation: mean square from 1, epsilon under the root, rate in the velocity."""
    square, velocity = np.ones_like(w), np.zeros_like(w)
    for _ in range(steps):
        g = gradient(w) + 0.01 * w
        square = 0.9 * square + 0.1 * g * g
        velocity = 0.9 * velocity + 0.045 * g / np.sqrt(square + 1.0)
        w = w - velocity
    return w


def test_rmsprop_has_epsilon_under_the_root() -> None:
    net = nn.Linear(3, 1, bias=False).double()
    start = net.weight.detach().numpy().copy()
    x = torch.tensor([[1.0, -2.0, 0.5]], dtype=torch.float64)
    steps(net, optimisers.make(net, RECIPES["rmsprop"]), [x] * 5)
    a = x.numpy()
    expected = rmsprop(start, lambda w: 2 * (w @ a.T) * a, 5)
    assert np.allclose(net.weight.detach().numpy(), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("sgd", lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01)),
        ("nesterov", lambda p: torch.optim.SGD(p, 0.1, momentum=0.9, weight_decay=0.01, nesterov=True)),
        ("adamw", lambda p: torch.optim.AdamW(p, 0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05)),
    ],
)
def test_the_others_are_torchs(name: str, theirs: Callable[[list[nn.Parameter]], torch.optim.Optimizer]) -> None:
    ours, other = made(), made()
    inputs = list(torch.randn(5, 6, 3, dtype=torch.float64))
    steps(ours, optimisers.make(ours, RECIPES[name]), inputs)
    steps(other, theirs(list(other.parameters())), inputs)
    assert all(torch.equal(a, b) for a, b in zip(ours.parameters(), other.parameters(), strict=True))


@pytest.mark.parametrize("name", RECIPES)
def test_a_restored_optimiser_goes_on_to_the_bit(name: str, tmp_path: Path) -> None:
    inputs = list(torch.randn(6, 6, 3, dtype=torch.float64))
    whole = made()
    steps(whole, optimisers.make(whole, RECIPES[name]), inputs)
    first = made()
    optimiser = optimisers.make(first, RECIPES[name])
    steps(first, optimiser, inputs[:3])
    weights.save(optimisers.tensors(first, optimiser), tmp_path / "o.safetensors")
    second = made(1)
    second.load_state_dict(first.state_dict())
    again = optimisers.make(second, RECIPES[name])
    optimisers.restore(second, again, weights.load(tmp_path / "o.safetensors"), "o")
    steps(second, again, inputs[3:])
    assert all(torch.equal(a, b) for a, b in zip(second.parameters(), whole.parameters(), strict=True))


def test_another_networks_state_is_refused() -> None:
    net = made()
    optimiser = optimisers.make(net, RECIPES["sgd"])
    with pytest.raises(BadCheckpoint) as caught:
        optimisers.restore(net, optimiser, {"momentum_buffer of 0.weight": torch.zeros(2, 2)}, "run/o.safetensors")
    assert str(caught.value) == (
        "run/o.safetensors does not belong to this network: momentum_buffer of 0.weight (2, 2) has no place"
    )
