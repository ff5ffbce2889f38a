"""Wide ResNets against the counts of their authors, torchvision and osmr, and torchvision with copied weights."""

import re
from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import nn

from convatlas.account import account
from convatlas.networks import NETWORKS, build, preresnet, wrn
from convatlas.table import Table

# Parameters: osmr/imgclsmob for 28-10, torchvision's metadata for 50-2 and 101-2; the others added up by hand, as the
# paper's 11.0, 8.9 and 55.8 M. MACs in millions: torchvision's 11.398 and 22.753 G, the others added up by hand.
COUNTS = {
    "wrn16_8_cifar": (10_961_370, 1_548),
    "wrn28_10_cifar": (36_479_194, 5_243),
    "wrn40_4_cifar": (8_949_210, 1_299),
    "wrn40_10_cifar": (55_841_754, 8_074),
    "wrn28_10_dropout_cifar": (36_479_194, 5_243),
    "wrn50_2": (68_883_240, 11_398),
    "wrn101_2": (126_886_696, 22_753),
}
CIFAR = [name for name in COUNTS if "_cifar" in name]


@cache
def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return build(name).eval()


@cache
def table(name: str) -> Table:
    return account(on_meta(name), NETWORKS[name].input)


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_and_macs(name: str) -> None:
    totals = table(name).totals
    assert (totals.params, round(totals.macs / 1e6)) == COUNTS[name]


def test_every_name_is_counted_here() -> None:
    assert set(COUNTS) == set(wrn.NETWORKS)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("name", ["wrn50_2", pytest.param("wrn101_2", marks=pytest.mark.slow)])
def test_logits_equal_torchvisions_with_its_weights(
    differences: Callable[..., list[float]], name: str, train: bool
) -> None:
    assert differences(name, (64, 64), train=train) == [0]


@pytest.mark.parametrize("name", CIFAR)
def test_table_1(name: str) -> None:
    """Output sizes 32, 16, 8 with 16k, 32k, 64k maps; d counts all convolutions; N = (d-4)/6 units of two."""
    d, k = map(int, re.findall(r"\d+", name))
    convolutions = [m for m in on_meta(name).modules() if isinstance(m, nn.Conv2d)]
    assert len(convolutions) == d
    for label, maps, side in (("conv1", 16, 32), ("conv2", 16 * k, 32), ("conv3", 32 * k, 16), ("conv4", 64 * k, 8)):
        assert table(name).under(label).rows[-1].output == (1, maps, side, side)
    for label in ("conv2", "conv3", "conv4"):
        stage = on_meta(name).get_submodule(label)
        assert len(list(stage.children())) == (d - 4) // 6
        for unit in stage.children():
            assert [m.kernel_size for m in unit.body.modules() if isinstance(m, nn.Conv2d)] == [(3, 3), (3, 3)]


def test_dropout_stands_between_the_convolutions_and_only_there() -> None:
    """Section 2.4; the authors' code has it after the second activation."""
    modules = dict(on_meta("wrn28_10_dropout_cifar").named_modules())
    dropouts = [n for n, m in modules.items() if isinstance(m, nn.Dropout)]
    assert len(dropouts) == 12
    assert {modules[n].p for n in dropouts} == {0.3}
    for name in dropouts:
        unit = modules[name.rsplit(".", 1)[0]]
        assert [n for n, _ in unit.named_children()] == ["conv1", "act2", "dropout", "conv2"]
    assert not [m for m in on_meta("wrn28_10_cifar").modules() if isinstance(m, nn.Dropout)]


def test_dropout_changes_nothing_in_evaluation() -> None:
    body, _ = wrn.wide(4, 8, 1, dropout=0.3)
    plain, _ = wrn.wide(4, 8, 1)
    plain.load_state_dict(body.state_dict())
    x = torch.randn(4, 4, 9, 9)
    with torch.no_grad():
        assert torch.equal(body.eval()(x), plain.eval()(x))
        assert not torch.allclose(body.train()(x), plain.train()(x))


def test_with_k_1_it_is_the_thin_network() -> None:
    """Section 3: a widening factor of 1 gives the basic pre-activation network, here of 6N+2 layers on the way."""
    with torch.device("meta"):
        one = wrn.wrn_cifar(16, 1)
        thin = preresnet.cifar((16, 32, 64), 2, preresnet.basic)
    shapes = [{n: p.shape for n, p in net.named_parameters()} for net in (one, thin)]
    assert shapes[0] == shapes[1]


def test_only_the_inner_3x3_of_the_imagenet_networks_is_wider() -> None:
    """The widths of the authors' printout of their released WRN-50-2."""
    net = on_meta("wrn50_2")
    for stage, inner in (("conv2", 128), ("conv3", 256), ("conv4", 512), ("conv5", 1024)):
        body = net.get_submodule(f"{stage}.1.body")
        widths = [m.out_channels for m in body.modules() if isinstance(m, nn.Conv2d)]
        assert widths == [inner, inner, 2 * inner]
        assert body.conv2.conv.stride == ((1, 1) if stage == "conv2" else (2, 2))


def test_initialised_as_by_he() -> None:
    net = build("wrn16_8_cifar", classes=2)
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 30_000:
            assert module.weight.std().item() == pytest.approx((2 / module.weight[0].numel()) ** 0.5, rel=0.02)
    assert not net.fc.bias.any()
