"""ResNeXts against torchvision's and osmr's counts, libraries' logits, and the equivalence of Figure 3."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from convatlas.account import account
from convatlas.networks import NETWORKS, build, resnext
from convatlas.table import Table

# Parameters: torchvision's metadata, osmr/imgclsmob for 101 32x4d and 29 16x64d; 29 8x64d added up by hand (34.4 M in
# Table 7). MACs in millions: torchvision's 4.230, 15.460 and 16.414 G; the others added up by hand.
COUNTS = {
    "resnext50_32x4d": (25_028_904, 4_230),
    "resnext101_32x4d": (44_177_704, 7_970),
    "resnext101_64x4d": (83_455_272, 15_460),
    "resnext101_32x8d": (88_791_336, 16_414),
    "resnext29_8x64d_cifar": (34_426_698, 5_387),
    "resnext29_16x64d_cifar": (68_155_210, 10_689),
}


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
    assert set(COUNTS) == set(resnext.NETWORKS)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize(
    "name",
    [
        "resnext50_32x4d",
        "resnext101_32x4d",
        pytest.param("resnext101_64x4d", marks=pytest.mark.slow),
        pytest.param("resnext101_32x8d", marks=pytest.mark.slow),
    ],
)
def test_logits_equal_those_of_its_library_with_its_weights(
    differences: Callable[..., list[float]], name: str, train: bool
) -> None:
    assert differences(name, (64, 64), train=train) == [0]


def test_table_1() -> None:
    """The right column: inner maps, output maps and sizes of ResNeXt-50 (32x4d), with 32 groups in every 3x3."""
    net = on_meta("resnext50_32x4d")
    for stage, inner, maps, side, blocks in (
        ("conv2", 128, 256, 56, 3),
        ("conv3", 256, 512, 28, 4),
        ("conv4", 512, 1024, 14, 6),
        ("conv5", 1024, 2048, 7, 3),
    ):
        assert table("resnext50_32x4d").under(stage).rows[-1].output == (1, maps, side, side)
        children = list(net.get_submodule(stage).children())
        assert len(children) == blocks
        for block in children:
            convolutions = [m for m in block.body.modules() if isinstance(m, nn.Conv2d)]
            found = [(m.kernel_size[0], m.out_channels, m.groups) for m in convolutions]
            assert found == [(1, inner, 1), (3, inner, 32), (1, maps, 1)]


def test_the_cifar_network_of_section_5_3() -> None:
    """A single 3x3, three stages of three blocks, 29 layers; 8x64d means 512 inner maps in the first stage."""
    for name, cardinality in (("resnext29_8x64d_cifar", 8), ("resnext29_16x64d_cifar", 16)):
        net = on_meta(name)
        for s, stage in enumerate(("conv2", "conv3", "conv4")):
            side = 32 >> s
            assert table(name).under(stage).rows[-1].output == (1, 256 << s, side, side)
            for block in net.get_submodule(stage).children():
                conv = block.body.conv2.conv
                assert (conv.out_channels, conv.groups) == (64 * cardinality << s, cardinality)
        layers = [n for n, m in net.named_modules() if isinstance(m, nn.Conv2d | nn.Linear) and "shortcut" not in n]
        assert len(layers) == 29


@pytest.mark.parametrize(("c", "d"), [(1, 64), (32, 4), (64, 4), (8, 64)])
def test_weights_of_the_template(c: int, d: int) -> None:
    """Equation 4: C (256 d + 3 3 d d + d 256)."""
    body, cout = resnext.aggregated(c, d)(256, 64, 1)
    assert cout == 256
    weights = sum(m.weight.numel() for m in body.modules() if isinstance(m, nn.Conv2d))
    assert weights == c * (256 * d + 3 * 3 * d * d + d * 256)


def test_a_grouped_bottleneck_is_a_sum_of_thin_ones() -> None:
    """Figure 3: form (c), as it stands here, equals form (a), 32 bottlenecks of 4 maps that are added up."""
    torch.manual_seed(0)
    body, _ = resnext.aggregated(32, 4)(256, 64, 2)
    for module in body.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(values, 0.5, 1.5)
    body.eval().double()
    x = torch.randn(2, 256, 6, 6, dtype=torch.float64)
    functional = nn.functional

    def part(layer: nn.Module, y: Tensor, maps: slice, stride: int = 1) -> Tensor:
        bn, weight = layer.bn, layer.conv.weight[maps]
        y = functional.conv2d(y, weight, None, stride, padding=weight.shape[-1] // 2)
        statistics = (bn.running_mean[maps], bn.running_var[maps], bn.weight[maps], bn.bias[maps])
        return functional.relu(functional.batch_norm(y, *statistics))

    with torch.inference_mode():
        total = torch.zeros(2, 256, 3, 3, dtype=torch.float64)
        for group in range(32):
            maps = slice(4 * group, 4 * group + 4)
            thin = part(body.conv2, part(body.conv1, x, maps), maps, stride=2)
            total += functional.conv2d(thin, body.conv3.conv.weight[:, maps])
        torch.testing.assert_close(body(x), body.conv3.bn(total))


def test_initialised_as_by_he() -> None:
    """A grouped convolution's fan_in is that of one group."""
    net = build("resnext50_32x4d", classes=2)
    for module in net.modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 30_000:
            fan_in = module.in_channels // module.groups * module.kernel_size[0] ** 2
            assert module.weight.std().item() == pytest.approx((2 / fan_in) ** 0.5, rel=0.02)
    assert not net.fc.bias.any()
