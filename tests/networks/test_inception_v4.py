"""Inception-v4 and Inception-ResNet-v2 against TF-slim's shapes and receptive fields, and timm with copied weights."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
import torch.fx
from torch import nn

from convatlas.account import account
from convatlas.networks import NETWORKS, build
from convatlas.networks.inception_v4 import BLOCK8, INCEPTION_A, Residual, initialise, mixed
from convatlas.table import Table

Differences = Callable[..., list[float]]

# osmr/imgclsmob's table; fvcore 0.1.5 on timm's networks at 299x299, convolutions and the linear layer.
PARAMETERS = {"inception_v4": 42_679_816, "inception_resnet_v2": 55_843_464}
MACS = {"inception_v4": 12_252_438_624 + 1_536_000, "inception_resnet_v2": 13_154_258_016 + 1_536_000}

# google-research/receptive_field, RECEPTIVE_FIELD_TABLE.md, with its names of TF-slim: field and stride
FIELDS = {
    "inception_v4": {
        "stem.conv2d_1a": (3, 2),
        "stem.conv2d_2a": (7, 2),
        "stem.conv2d_2b": (11, 2),
        "stem.mixed_3a": (15, 4),
        "stem.mixed_4a": (47, 4),
        "stem.mixed_5a": (55, 8),
        "inception_a_1": (87, 8),  # Mixed_5b
        "inception_a_4": (183, 8),
        "reduction_a": (215, 16),  # Mixed_6a
        "inception_b_1": (407, 16),
        "inception_b_7": (1559, 16),
        "reduction_b": (1687, 32),  # Mixed_7a
        "inception_c_1": (1815, 32),
        "inception_c_3": (2071, 32),
    },
    "inception_resnet_v2": {
        "stem.conv2d_4a": (23, 4),
        "stem.maxpool_5a": (31, 8),
        "mixed_5b": (63, 8),
        "mixed_6a": (415, 16),
        "block17_20": (2335, 16),  # PreAuxLogits
        "mixed_7a": (2399, 32),
        "conv2d_7b": (3039, 32),
    },
}
# Comments of TF-slim's inception_v4.py and inception_resnet_v2.py: channels and height, which is the width too
SHAPES = {
    "inception_v4": {
        "stem.conv2d_1a": (32, 149),
        "stem.conv2d_2a": (32, 147),
        "stem.conv2d_2b": (64, 147),
        "stem.mixed_3a": (160, 73),
        "stem.mixed_4a": (192, 71),
        **dict.fromkeys(("stem.mixed_5a", *(f"inception_a_{n}" for n in range(1, 5))), (384, 35)),
        **dict.fromkeys(("reduction_a", *(f"inception_b_{n}" for n in range(1, 8))), (1024, 17)),
        **dict.fromkeys(("reduction_b", *(f"inception_c_{n}" for n in range(1, 4))), (1536, 8)),
    },
    "inception_resnet_v2": {
        "stem.conv2d_1a": (32, 149),
        "stem.conv2d_2a": (32, 147),
        "stem.conv2d_2b": (64, 147),
        "stem.maxpool_3a": (64, 73),
        "stem.conv2d_3b": (80, 73),
        "stem.conv2d_4a": (192, 71),
        "stem.maxpool_5a": (192, 35),
        **dict.fromkeys(("mixed_5b", *(f"block35_{n}" for n in range(1, 11))), (320, 35)),
        **dict.fromkeys(("mixed_6a", *(f"block17_{n}" for n in range(1, 21))), (1088, 17)),
        **dict.fromkeys(("mixed_7a", *(f"block8_{n}" for n in range(1, 11))), (2080, 8)),
        "conv2d_7b": (1536, 8),
    },
}


@cache
def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return build(name).eval()


@cache
def table(name: str) -> Table:
    return account(on_meta(name), NETWORKS[name].input)


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters_and_macs(name: str) -> None:
    assert (table(name).totals.params, table(name).totals.macs) == (PARAMETERS[name], MACS[name])


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_of_tf_slim(name: str) -> None:
    last = {label: table(name).under(label).rows[-1].output for label in SHAPES[name]}
    assert last == {label: (1, channels, side, side) for label, (channels, side) in SHAPES[name].items()}


@pytest.mark.parametrize("name", FIELDS)
def test_receptive_fields_of_googles_library(name: str) -> None:
    last = {label: table(name).under(label).rows[-1] for label in FIELDS[name]}
    assert {n: (r.field, r.stride) for n, r in last.items()} == {
        n: ((field, field), (stride, stride)) for n, (field, stride) in FIELDS[name].items()
    }


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", PARAMETERS)
def test_logits_equal_timms_with_its_weights(differences: Differences, name: str, train: bool) -> None:
    assert differences(name, (107, 107), train=train) == [0]


@pytest.mark.parametrize(("name", "sums"), [("inception_v4", 0), ("inception_resnet_v2", 10 + 20 + 10)])
def test_only_inception_resnet_has_residual_connections(name: str, sums: int) -> None:
    assert sum(row.op == "add" for row in table(name).rows) == sums


@pytest.mark.parametrize(("label", "scale"), [("block35_1", 0.17), ("block17_20", 0.1), ("block8_9", 0.2)])
def test_residuals_are_scaled(label: str, scale: float) -> None:
    """Section 3.3: with a residual of 1 everywhere a block adds its scale."""
    block = on_meta("inception_resnet_v2").get_submodule(label)
    again = Residual(6, BLOCK8, block.scale).eval()
    nn.init.zeros_(again.up.weight)
    nn.init.ones_(again.up.bias)
    x = torch.rand(1, 6, 3, 3)
    with torch.inference_mode():
        torch.testing.assert_close(again(x), x + scale)
        torch.testing.assert_close(again(x - 5), torch.zeros_like(x))  # its ReLU


def test_the_last_block_is_neither_scaled_nor_cut() -> None:
    """TF-slim: block8(net, activation_fn=None), whose scale is 1."""
    blocks = [on_meta("inception_resnet_v2").get_submodule(f"block8_{n}") for n in range(1, 11)]
    assert [block.scale for block in blocks] == [0.2] * 9 + [1.0]
    assert [isinstance(block.relu, nn.ReLU) for block in blocks] == [True] * 9 + [False]


def test_batch_normalisation_is_tf_slims() -> None:
    for name in PARAMETERS:
        assert {m.eps for m in on_meta(name).modules() if isinstance(m, nn.BatchNorm2d)} == {0.001}


def test_dropout_keeps_80_per_cent() -> None:
    for name in PARAMETERS:
        assert [m.p for m in on_meta(name).modules() if isinstance(m, nn.Dropout)] == [0.2]


def test_weights_are_drawn_as_tf_slim_draws_them() -> None:
    torch.manual_seed(0)
    module, _ = mixed(384, INCEPTION_A)
    initialise(module, "he")
    for layer in (m for m in module.modules() if isinstance(m, nn.Conv2d)):
        fan_in = layer.weight[0].numel()
        assert layer.weight.var().item() == pytest.approx(2 / fan_in, rel=0.05)
        assert layer.weight.abs().max().item() <= 2 * (2.6 / fan_in) ** 0.5
    block = nn.Sequential(Residual(64, BLOCK8, 0.2), nn.Linear(100, 50))
    initialise(block, "glorot")
    for layer in (m for m in block.modules() if isinstance(m, nn.Conv2d | nn.Linear)):
        area = layer.weight[0, 0].numel()
        bound = (6 / (layer.weight.shape[0] + layer.weight.shape[1]) / area) ** 0.5
        assert 0.98 * bound < layer.weight.abs().max().item() <= bound
        assert layer.bias is None or not layer.bias.any()
