"""Pre-activation ResNets against osmr's counts, timm's networks with copied weights, and the paper's equations."""

import re
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from convatlas.account import account
from convatlas.networks import NETWORKS, build, preresnet
from convatlas.networks.preresnet import Unit

# Parameters: osmr/imgclsmob's tables; for 110 layers those of the 2015 network, since moving the normalisations takes
# 32 + 32 + 64 away (conv1 and the two units that double the maps) and puts 128 at the end. MACs in millions: the same
# convolutions as torchvision's ResNets of 18 to 152 layers (its metadata: 1.814, 3.664, 4.089, 7.801, 11.514 G); the
# others added up by hand.
COUNTS = {
    "preresnet18": (11_687_848, 1_814),
    "preresnet34": (21_796_008, 3_664),
    "preresnet50": (25_549_480, 4_089),
    "preresnet101": (44_541_608, 7_801),
    "preresnet152": (60_185_256, 11_514),
    "preresnet200": (64_666_280, 15_007),
    "preresnet110_cifar": (1_727_962, 253),
    "preresnet164_cifar": (1_703_258, 245),
    "preresnet1001_cifar": (10_327_706, 1_488),
}


@cache
def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return build(name).eval()


@pytest.mark.parametrize("name", COUNTS)
def test_parameters_and_macs(name: str) -> None:
    totals = account(on_meta(name), NETWORKS[name].input).totals
    assert (totals.params, round(totals.macs / 1e6)) == COUNTS[name]


def test_every_name_is_counted_here() -> None:
    assert set(COUNTS) == set(preresnet.NETWORKS)


@pytest.mark.parametrize("name", COUNTS)
def test_the_name_tells_the_depth(name: str) -> None:
    modules = on_meta(name).named_modules()
    layers = [n for n, m in modules if isinstance(m, nn.Conv2d | nn.Linear) and "shortcut" not in n]
    assert len(layers) == int(re.findall(r"\d+", name)[0])


def test_units_of_the_deepest_networks() -> None:
    """Section 4.1: 333 units with 1001 layers, 111 on each size. Section 5: with 200 layers, 16 more than with 152."""

    def units(name: str, *stages: str) -> list[int]:
        return [len(list(on_meta(name).get_submodule(stage).children())) for stage in stages]

    assert units("preresnet1001_cifar", "conv2", "conv3", "conv4") == [111, 111, 111]
    deep, deeper = (units(f"preresnet{d}", "conv2", "conv3", "conv4", "conv5") for d in (152, 200))
    assert [b - a for a, b in zip(deep, deeper, strict=True)] == [0, 16, 0, 0]


# ---- timm's ---------------------------------------------------------------------------------------------------------

RULES = (  # our names to those of timm's resnetv2
    (r"^conv1\.conv\.", "stem.conv."),
    (r"^act5\.bn\.", "norm."),
    (r"^fc\.", "head.fc."),
    (r"^conv(\d)\.(\d+)\.", lambda m: f"stages.{int(m[1]) - 2}.blocks.{int(m[2]) - 1}."),
    (r"act(\d)\.bn\.", r"norm\1."),
    (r"(body\.)+", ""),
    (r"shortcut\.", "downsample.conv."),
)


def without_stem_activation(name: str) -> nn.Sequential:
    """timm activates once after conv1 where we do so twice, before and after pooling: ours without the first."""
    with torch.device("meta"):
        net = build(name)
    assert isinstance(net, nn.Sequential)
    net.get_submodule("conv1").bn = nn.Identity()
    net.relu1 = nn.Identity()
    return net.to_empty(device="cpu")


@pytest.mark.parametrize(
    "depth", [18, 50, pytest.param(34, marks=pytest.mark.slow), pytest.param(101, marks=pytest.mark.slow)]
)
def test_logits_equal_timms_with_its_weights(depth: int) -> None:
    import timm

    torch.manual_seed(0)
    other = timm.create_model(f"resnetv2_{depth}", pretrained=False, zero_init_last=False)
    for name, tensor in other.state_dict().items():  # a value of its own in every entry
        if tensor.dim() == 1 and tensor.is_floating_point():
            tensor.uniform_(*(0.3, 0.9) if name.endswith(("weight", "var")) else (-0.2, 0.2))
    net = without_stem_activation(f"preresnet{depth}")
    state, taken = other.state_dict(), {}
    for own, tensor in net.state_dict().items():
        theirs = own
        for pattern, replacement in RULES:
            theirs = re.sub(pattern, replacement, theirs)
        taken[theirs] = state[theirs]
        tensor.copy_(state[theirs].reshape(tensor.shape))
    assert set(taken) == set(state)
    x = torch.randn(2, 3, 64, 64)
    for train in (False, True):
        net.train(train)
        other.train(train)
        with torch.no_grad():
            expected = other(x)
            assert 1e-2 < expected.std() < 1e3
            # timm's classifier is a 1x1 convolution, which adds up in another order than a linear layer
            torch.testing.assert_close(net(x), expected, rtol=1e-5, atol=1e-5)


# ---- The paper's equations ------------------------------------------------------------------------------------------


def by_hand(unit: Unit, x: Tensor, shared: bool) -> Tensor:
    """Figure 1b with the unit's weights: F over weights with normalisation and ReLU before each."""
    functional = nn.functional

    def a(act: nn.Module, y: Tensor) -> Tensor:
        bn = act.bn
        return functional.relu(functional.batch_norm(y, bn.running_mean, bn.running_var, bn.weight, bn.bias))

    activated = y = a(unit.act1, x)
    for i, conv in enumerate((m for m in unit.body if isinstance(m, nn.Conv2d)), 1):
        if i > 1:
            y = a(getattr(unit.body, f"act{i}"), y)
        y = functional.conv2d(y, conv.weight, None, conv.stride, conv.padding)
    return y + unit.shortcut(activated if shared else x)


@pytest.mark.parametrize("name", ["preresnet18", "preresnet50", "preresnet110_cifar", "preresnet164_cifar"])
def test_units_are_the_papers(name: str) -> None:
    """Identity shortcuts see x; those that change the shape see a(x), as does the CIFAR networks' first unit."""
    net = build(name, classes=2).eval()
    torch.manual_seed(0)
    for stage, number in (("conv2", "1"), ("conv2", "2"), ("conv3", "1"), ("conv3", "2")):
        unit = net.get_submodule(f"{stage}.{number}")
        assert isinstance(unit, Unit)
        x = torch.randn(2, unit.act1.bn.num_features, 9, 9)
        follows_conv1 = "_cifar" in name and (stage, number) == ("conv2", "1")
        changes = not isinstance(unit.shortcut, nn.Identity)
        assert changes == (number == "1" and (stage == "conv3" or name in ("preresnet50", "preresnet164_cifar")))
        with torch.inference_mode():
            torch.testing.assert_close(unit(x), by_hand(unit, x, shared=changes or follows_conv1))


def test_signals_pass_unchanged_in_both_directions() -> None:
    """Equations 4 and 5: with F = 0 a unit is the identity, for negative values too, and so is its gradient."""
    stage = build("preresnet164_cifar", classes=2).conv2[1:4]
    for unit in stage:
        nn.init.zeros_(unit.body.conv3.weight)
    x = torch.randn(2, 64, 8, 8, requires_grad=True)
    y = stage(x)
    assert torch.equal(y, x)
    gradient = torch.randn_like(y)
    y.backward(gradient)
    assert x.grad is not None
    assert torch.equal(x.grad, gradient)


def test_where_a_bottleneck_strides() -> None:
    def strides(name: str) -> list[int]:
        unit = on_meta(name).get_submodule("conv3.1")
        return [m.stride[0] for m in unit.modules() if isinstance(m, nn.Conv2d)]

    assert strides("preresnet50") == [1, 2, 1, 2]
    assert strides("preresnet164_cifar") == [2, 1, 1, 2]


def test_convolutions_have_no_bias_and_projections_no_normalisation() -> None:
    for name in ("preresnet50", "preresnet164_cifar"):
        modules = dict(on_meta(name).named_modules())
        assert not [n for n, m in modules.items() if isinstance(m, nn.Conv2d) and m.bias is not None]
        assert not [n for n, m in modules.items() if isinstance(m, nn.BatchNorm2d) and "shortcut" in n]


def test_initialised_as_by_he() -> None:
    net = build("preresnet18", classes=2)
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 30_000:
            assert module.weight.std().item() == pytest.approx((2 / module.weight[0].numel()) ** 0.5, rel=0.02)
    assert not net.fc.bias.any()
