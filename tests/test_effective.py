"""The gradient of a layer's centre: none outside the theoretical field, all of it inside, most in the middle."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from convatlas import networks
from convatlas.effective import Effective, effective_field
from convatlas.errors import BadInput, UnknownName

LAYERS = {
    "lenet5_relu": ((1, 32, 32), ("c1", "s2", "c3", "s4")),
    "resnet20_cifar": ((3, 32, 32), ("conv1", "conv2", "conv2.1", "conv3", "conv4", "pool4")),
    "googlenet": ((3, 96, 96), ("conv1", "pool1", "conv2", "pool2", "inception_3a", "inception_3b", "inception_4b")),
}
CASES = [(name, size, layer) for name, (size, layers) in LAYERS.items() for layer in layers]


def inside(found: Effective) -> np.ndarray:
    """The theoretical field as far as it lies on the image."""
    assert found.box is not None
    top, left, bottom, right = found.box
    mask = np.zeros(found.map.shape, bool)
    mask[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    return mask


@pytest.mark.parametrize(("name", "size", "layer"), CASES)
def test_the_gradient_fills_the_theoretical_field_and_no_more(
    name: str, size: tuple[int, int, int], layer: str
) -> None:
    found = effective_field(networks.build(name), size, layer, images=4)
    assert np.all(found.map[~inside(found)] == 0)
    assert np.all(found.map[inside(found)] > 0)
    assert found.map.dtype == np.float32
    assert found.map.shape == size[1:]
    assert found.map.sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("name", "layer"), [("resnet20_cifar", "conv2"), ("googlenet", "inception_3b")])
def test_it_decays_from_the_centre(name: str, layer: str) -> None:
    size = LAYERS[name][0]
    found = effective_field(networks.build(name), size, layer, images=8)
    assert found.box is not None
    side = found.box[2] - found.box[0]
    share = dict(zip(found.sides, found.shares, strict=True))
    rings = [found.sides[i] for i in range(0, len(found.sides), max(side // 10, 1)) if found.sides[i] <= side]
    density = [(share[b] - share[a]) / (b * b - a * a) for a, b in pairwise(rings)]
    assert density == sorted(density, reverse=True)  # a pixel of each ring gets less than one of the ring within
    assert found.side < side
    assert share[side] == pytest.approx(1)


def test_convolutions_of_ones_give_a_binomial() -> None:
    """n convolutions of ones: the map is the n-fold convolution of a window with itself (section 2.1 of the paper)."""
    net = nn.Sequential(*[nn.Conv2d(1, 1, 3, padding=1, bias=False) for _ in range(5)])
    for layer in net:
        nn.init.ones_(layer.weight)
    found = effective_field(net, (1, 31, 31), "4", images=1)
    line = np.ones(1)
    for _ in range(5):
        line = np.convolve(line, np.ones(3))
    expected = np.zeros((31, 31))
    expected[10:21, 10:21] = np.outer(line, line) / 3**10
    np.testing.assert_allclose(found.map, expected, rtol=1e-5)
    assert found.box == (10, 10, 21, 21)
    assert found.sides == tuple(range(1, 32, 2))
    inner = [float(line[5 - k : 6 + k].sum() / 3**5) ** 2 for k in range(6)]
    assert found.shares[:6] == pytest.approx(inner)
    assert found.shares[6:] == pytest.approx([1] * 10)
    assert found.side == 2 * next(k for k, share in enumerate(inner) if share >= 0.95) + 1
    deviation = math.sqrt(float((found.map.sum(0) * (np.arange(31) - 15) ** 2).sum()))
    assert deviation == pytest.approx(math.sqrt(5 * 2 / 3))  # each window of 3 adds a variance of 2/3


def test_an_even_field() -> None:
    net = nn.Sequential(nn.AvgPool2d(4))
    found = effective_field(net, (2, 16, 16), "0", images=1)
    assert found.box == (4, 4, 8, 8)
    assert found.sides[:3] == (2, 4, 6)
    assert found.shares[:3] == pytest.approx((0.25, 1, 1))
    assert found.as_text() == (
        "Sequential, 0, input 16x16, 1 random images\n"
        "The theoretical field is 4x4, rows 4 to 7, columns 4 to 7.\n"
        "The smallest square in its middle that holds 95.0 % of the gradient has 4 pixels a side.\n"
        "\n"
        "2   25.0 %\n"
        "4  100.0 %"
    )


def test_a_later_layer_that_works_in_place_has_no_say() -> None:
    net = nn.Sequential(nn.Conv2d(1, 1, 3), nn.ReLU(inplace=True))
    nn.init.ones_(net[0].weight)
    nn.init.constant_(net[0].bias, -1000)  # so that nothing comes through the ReLU
    found = effective_field(net, (1, 9, 9), "0", images=1)
    assert found.map[3:6, 3:6] == pytest.approx(np.full((3, 3), 1 / 9))


def test_a_layer_without_a_theoretical_field() -> None:
    net = nn.Sequential(nn.Conv2d(1, 2, 3, 2), nn.Upsample(scale_factor=2), nn.Conv2d(2, 2, 3))
    found = effective_field(net, (1, 16, 16), "2", images=2)
    assert found.box is None
    assert "The theoretical field is not known here." in found.as_text()


def test_the_same_seed_gives_the_same_map() -> None:
    net = networks.build("lenet5_relu")
    one, two, other = (effective_field(net, (1, 32, 32), "s4", images=2, seed=s) for s in (3, 3, 4))
    assert np.array_equal(one.map, two.map)
    assert not np.array_equal(one.map, other.map)


class Restless(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.relu(self.norm(self.conv(x) + torch.randn(1)))


@pytest.mark.parametrize("layer", ["0.conv", "0.relu", "1"])
def test_the_network_is_left_as_it_was(layer: str) -> None:
    net = nn.Sequential(Restless(), nn.Conv2d(4, 4, 3), nn.Linear(99, 9) if layer == "0.conv" else nn.ReLU())
    net[0].norm.eval()
    net[1].weight.grad = torch.ones_like(net[1].weight)
    before = {k: (id(v), v._version, v.clone()) for k, v in net.state_dict(keep_vars=True).items()}
    modes, state = [m.training for m in net.modules()], torch.get_rng_state()
    with torch.no_grad():
        if layer == "0.conv":
            with pytest.raises(BadInput):  # the account meets a layer that does not fit
                effective_field(net, (3, 12, 12), layer)
        else:
            effective_field(net, (3, 12, 12), layer)
        assert not torch.is_grad_enabled()
    assert [m.training for m in net.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    for k, v in net.state_dict(keep_vars=True).items():
        assert (id(v), v._version) == before[k][:2]
        assert torch.equal(v, before[k][2])
    assert all(p.grad is None for n, p in net.named_parameters() if n != "1.weight")
    assert torch.equal(net[1].weight.grad, torch.ones_like(net[1].weight))
    assert not any(m._forward_hooks for m in net.modules())


def refusal(net: nn.Module, size: tuple[int, ...], layer: str, **options: int) -> str:
    with pytest.raises((BadInput, UnknownName)) as caught:
        effective_field(net, size, layer, **options)
    return str(caught.value)


def test_errors() -> None:
    net = networks.build("lenet5_relu")
    assert refusal(net, (1, 32, 32), "c33") == "no layer named 'c33'; did you mean c3?"
    assert refusal(net, (1, 32, 32), "f6") == "f6 gives 1x84, expected a map of 4 dimensions; take one before"
    assert refusal(net, (32, 32), "c1") == (
        "input (32, 32), 8 images: give (channels, height, width) and at least one image"
    )
    assert refusal(net, (1, 32, 32), "c1", images=0) == (
        "input (1, 32, 32), 0 images: give (channels, height, width) and at least one image"
    )
    assert refusal(networks.build("googlenet"), (3, 64, 64), "aux1") == (
        "aux1 is not reached by the forward in evaluation mode; take another layer"
    )
    dead = nn.Sequential(nn.Conv2d(1, 1, 1))
    nn.init.zeros_(dead[0].weight)
    assert refusal(dead, (1, 8, 8), "0") == (
        "0: the centre of its output has no gradient on these 8 images; give more images"
    )
    with torch.device("meta"):
        empty = nn.Sequential(nn.Conv2d(1, 1, 1))
    assert refusal(empty, (1, 8, 8), "0") == (
        "at 0: weights on 'meta' cannot be run on the CPU; build the network on the CPU, or move it there"
    )
