"""ENet's encoder against the paper's table, counts by hand after the authors' code, and its blocks' formulas."""

from functools import cache

import pytest
import torch
from torch import nn

from convatlas.account import account
from convatlas.networks import build
from convatlas.networks.enet import Bottleneck


@cache
def on_meta() -> nn.Module:
    with torch.device("meta"):
        return build("enet").eval()


def bottleneck_by_hand(cin: int, cout: int, taps: int, *, biases: int = 1) -> int:
    """e-lab/ENet-training, encoder.lua: three convolutions, of which the middle one keeps a bias, with normalisation
    (2 for a map) after each and PReLU (1 for a map) after the first two and after the sum."""
    width = cout // 4
    first = (4 if cin != cout else 1) * cin * width + 3 * width
    second = taps * width * width + biases * width + 3 * width
    return first + second + width * cout + 2 * cout + cout


def test_parameters_are_those_of_the_authors_code() -> None:
    sections = [9, 9, 10, 9, 9, 9, 10, 9] * 2  # taps of a 3x3, and of a 1x5 and a 5x1
    encoder = 3 * 9 * 13 + 13 + 3 * 16
    encoder += bottleneck_by_hand(16, 64, 9) + 4 * bottleneck_by_hand(64, 64, 9)
    encoder += bottleneck_by_hand(64, 128, 9) + sum(bottleneck_by_hand(128, 128, taps) for taps in sections)
    assert encoder == 338_156
    assert sum(p.numel() for p in on_meta().parameters()) == encoder + 128 * 1000 + 1000 == 467_156


def macs_by_hand(cin: int, cout: int, taps: int, pixels: int) -> int:
    width = cout // 4
    return pixels * ((4 if cin != cout else 1) * cin * width + taps * width * width + width * cout)


def test_macs() -> None:
    sections = [9, 9, 10, 9, 9, 9, 10, 9] * 2
    macs = 112**2 * 27 * 13 + macs_by_hand(16, 64, 9, 56**2) + 4 * macs_by_hand(64, 64, 9, 56**2)
    macs += macs_by_hand(64, 128, 9, 28**2) + sum(macs_by_hand(128, 128, taps, 28**2) for taps in sections)
    assert account(on_meta(), (3, 224, 224)).totals.macs == macs + 128 * 1000
    assert round(macs / 1e6) == 311


def test_sizes_are_those_of_table_one() -> None:
    """Table 1 is for an image of 512x512."""
    x = torch.empty(1, 3, 512, 512, device="meta")
    sizes = {}
    for name, layer in on_meta().named_children():
        x = layer(x)
        sizes[name] = tuple(x.shape[1:])
    assert sizes["initial"] == (16, 256, 256)
    assert sizes["bottleneck1"] == (64, 128, 128)
    assert sizes["bottleneck2"] == sizes["bottleneck3"] == (128, 64, 64)


def test_kinds_and_labels_are_those_of_table_one() -> None:
    middles = {}
    for name, block in on_meta().named_modules():
        if isinstance(block, Bottleneck):
            convs = [m for m in block.body.conv2 if isinstance(m, nn.Conv2d)]
            middles[name] = [(m.kernel_size, m.dilation[0]) for m in convs]
    regular, asymmetric = [((3, 3), 1)], [((1, 5), 1), ((5, 1), 1)]
    eight = [regular, [((3, 3), 2)], asymmetric, [((3, 3), 4)], regular, [((3, 3), 8)], asymmetric, [((3, 3), 16)]]
    expected = {f"bottleneck1.{i}": regular for i in range(5)} | {"bottleneck2.0": regular}
    expected |= {f"bottleneck{s}.{i}": kind for s in (2, 3) for i, kind in enumerate(eight, start=1)}
    assert middles == expected
    assert list(middles) == list(expected)


def test_the_initial_block_is_a_convolution_beside_a_pooling() -> None:
    block = build("enet").initial.eval()
    nn.init.uniform_(block.bn.running_mean)
    nn.init.uniform_(block.bn.running_var, 0.5, 1.5)
    x = torch.randn(2, 3, 10, 12)
    f = nn.functional
    with torch.inference_mode():
        conv = block.concat.conv
        joined = torch.cat([f.conv2d(x, conv.weight, conv.bias, 2, 1), f.max_pool2d(x, 2)], dim=1)
        bn = block.bn
        joined = f.batch_norm(joined, bn.running_mean, bn.running_var, bn.weight, bn.bias, eps=1e-3)
        torch.testing.assert_close(block(x), torch.where(joined > 0, joined, 0.25 * joined))
        assert block(x).shape == (2, 16, 5, 6)


@pytest.mark.parametrize(("height", "width"), [(45, 40), (63, 7)])
def test_odd_sizes_fit(height: int, width: int) -> None:
    net = build("enet", classes=3, channels=1).eval()
    with torch.inference_mode():
        assert net.initial(torch.zeros(1, 1, height, width)).shape == (1, 14, (height + 1) // 2, (width + 1) // 2)
        assert net(torch.randn(2, 1, height, width)).shape == (2, 3)


@pytest.mark.parametrize("kind", ["regular", "dilated 4", "asymmetric 5"])
def test_a_bottleneck_that_learnt_nothing_is_its_shortcut(kind: str) -> None:
    block = Bottleneck(64, 64, kind, 0.0).eval()
    nn.init.zeros_(block.body.conv3.bn.weight)
    x = torch.randn(2, 64, 9, 8)
    with torch.inference_mode():
        assert torch.equal(block(x), torch.where(x > 0, x, 0.25 * x))


def test_a_downsampling_shortcut_is_a_pooling_with_maps_of_zeros_behind() -> None:
    block = Bottleneck(16, 64, "regular", 0.0, downsample=True)
    x = torch.randn(2, 16, 8, 6)
    y = block.shortcut(x)
    assert torch.equal(y[:, :16], nn.functional.max_pool2d(x, 2))
    assert y.shape == (2, 64, 4, 3)
    assert not y[:, 16:].any()


@pytest.mark.parametrize(
    ("kind", "pixels"), [("regular", 3), ("dilated 2", 5), ("dilated 16", 33), ("asymmetric 5", 5)]
)
def test_how_far_a_bottleneck_sees(kind: str, pixels: int) -> None:
    with torch.device("meta"):
        block = Bottleneck(128, 128, kind, 0.1).eval()
    assert account(block, (128, 28, 28)).totals.field == (pixels, pixels)


def test_dropout_takes_whole_maps() -> None:
    """Section 4: Spatial Dropout with 0.01 before bottleneck2.0 and 0.1 afterwards."""
    rates = [(n.split(".")[0], m.p) for n, m in on_meta().named_modules() if isinstance(m, nn.Dropout2d)]
    late = [("bottleneck2", 0.1)] * 9 + [("bottleneck3", 0.1)] * 8
    assert rates == [("bottleneck1", 0.01)] * 5 + late


def test_biases_and_slopes() -> None:
    """Projections have no bias, middle convolutions have one; PReLU has a slope for each map, 0.25 at the beginning."""
    net = build("enet")
    with_bias = [n for n, m in net.named_modules() if isinstance(m, nn.Conv2d) and m.bias is not None]
    assert all(n == "initial.concat.conv" or n.endswith((".conv2.conv2", ".conv2.conv2b")) for n in with_bias)
    assert len(with_bias) == 1 + 5 + 17
    slopes = [(m.num_parameters, m.weight) for m in net.modules() if isinstance(m, nn.PReLU)]
    assert len(slopes) == 1 + 3 * 22
    assert all(width > 1 and (weight == 0.25).all() for width, weight in slopes)


def test_initialisation_is_torchs() -> None:
    net = build("enet")
    block = net.bottleneck2[1].body
    for layer, fan_in in ((block.conv1.conv, 128), (block.conv2.conv2, 288), (block.conv3.conv, 32), (net.fc, 128)):
        for tensor in (layer.weight, layer.bias):
            if tensor is not None:
                assert 0.85 * fan_in**-0.5 < tensor.abs().max().item() <= fan_in**-0.5
