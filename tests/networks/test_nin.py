"""NIN against the authors' files, another library's count, and what the paper says of its layers."""

from functools import cache

import pytest
import torch
from torch import nn

from convatlas.account import account
from convatlas.networks import NETWORKS, build
from convatlas.table import Table


@cache
def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return build(name).eval()


@cache
def table(name: str) -> Table:
    return account(on_meta(name), NETWORKS[name].input)


def test_parameters() -> None:
    """nin_cifar: osmr/imgclsmob's table. The others layer by layer from the authors' files, all with biases."""
    found = {name: sum(p.numel() for p in on_meta(name).parameters()) for name in ("nin", "nin_cifar", "nin_bn")}
    layers = [(3, 11, 96), (96, 1, 96), (96, 1, 96), (96, 5, 256), (256, 1, 256), (256, 1, 256), (256, 3, 384)]
    layers += [(384, 1, 384), (384, 1, 384), (384, 3, 1024), (1024, 1, 1024)]
    shared = sum(cin * k * k * cout + cout for cin, k, cout in layers)
    last = 1024 * 1000 + 1000
    normalisation = 2 * 3 * (96 + 256 + 384 + 1024)
    assert found == {
        "nin": shared + last,
        "nin_cifar": 966_986,
        "nin_bn": shared + 1024 * 1024 + 1024 + normalisation + last,
    }
    assert found["nin"] == 7_595_176
    assert found["nin_bn"] == 8_655_336


@pytest.mark.parametrize(("name", "macs"), [("nin", 1_100.19), ("nin_cifar", 222.49), ("nin_bn", 1_259.94)])
def test_macs(name: str, macs: float) -> None:
    """Kernel x widths x pixels of the same layers, in millions, by plain arithmetic."""
    assert table(name).totals.macs / 1e6 == pytest.approx(macs, abs=0.005)


def test_macs_are_another_librarys_by_its_convention() -> None:
    """osmr/imgclsmob prints FLOPs/2: it adds 1/2 for a ReLU and 1/2 for each pixel under a pooling window."""
    windows = {"max_pool2d": 9, "avg_pool2d": 9, "adaptive_avg_pool2d": 64}
    t = table("nin_cifar")
    size = [(r.op.rstrip("_"), torch.Size(r.output).numel()) for r in t.rows]
    more = sum(count / 2 * windows.get(op, 1) for op, count in size if op in windows or op == "relu")
    assert (t.totals.macs + more) / 1e6 == pytest.approx(222.97, abs=0.005)


# The Caffe files with their rounding up (54 to 27, 32 to 16), and models/ninbn.lua.
SHAPES = {
    "nin": "54 54 54 27 27 27 27 13 13 13 13 6 6 6 6 1",
    "nin_cifar": "32 32 32 16 16 16 16 8 8 8 8 1",
    "nin_bn": "56 56 56 28 28 28 28 14 14 14 14 7 7 7 7 1",
}


@pytest.mark.parametrize("name", sorted(SHAPES))
def test_sizes_of_maps(name: str) -> None:
    x = torch.empty(1, *NETWORKS[name].input, device="meta")
    sizes = []
    for label, layer in on_meta(name).named_children():
        x = layer(x)
        if label.startswith(("conv", "cccp", "pool")):
            sizes.append(f"{x.shape[2]}")
    assert " ".join(sizes) == SHAPES[name]
    assert x.shape == (1, NETWORKS[name].classes)


def test_labels_are_those_of_the_caffe_file() -> None:
    expected = "conv1 cccp1 cccp2 pool1 conv2 cccp3 cccp4 pool2 conv3 cccp5 cccp6 pool3 drop conv4 cccp7 cccp8 pool4"
    assert [name for name, _ in on_meta("nin").named_children()] == [*expected.split(), "flatten"]


def test_a_1x1_convolution_is_one_network_for_every_pixel() -> None:
    """Section 3.1: the layers behind a convolution are a multilayer perceptron that slides over the map."""
    net = build("nin_cifar")
    x = torch.rand(2, 192, 5, 6)
    pixels = x.permute(0, 2, 3, 1)
    for layer in (net.cccp1, net.cccp2):
        weight, bias = layer.conv.weight[:, :, 0, 0], layer.conv.bias
        pixels = nn.functional.relu(nn.functional.linear(pixels, weight, bias))
    torch.testing.assert_close(net.cccp2(net.cccp1(x)), pixels.permute(0, 3, 1, 2))


def test_a_score_is_the_mean_of_its_map() -> None:
    """Section 3.2: the last layer has a map for each class, and no weights follow."""
    net = build("nin_cifar", classes=7).eval()
    x = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        maps = net[: list(net._modules).index("pool3")](x)
        assert maps.shape == (2, 7, 8, 8)
        torch.testing.assert_close(net(x), maps.mean(dim=(2, 3)))
    assert not [p for layer in (net.pool3, net.flatten) for p in layer.parameters()]


def test_the_second_pooling_is_an_average_of_the_pixels_that_there_are() -> None:
    """As Caffe's and Lasagne's: the last window of 16 pixels covers two of them."""
    x = torch.rand(1, 1, 16, 16)
    y = build("nin_cifar").pool2(x)
    expected = [[x[0, 0, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3].mean() for j in range(8)] for i in range(8)]
    torch.testing.assert_close(y[0, 0], torch.tensor(expected))


def test_dropout_stands_between_blocks() -> None:
    for name, labels in (("nin", ["drop"]), ("nin_cifar", ["drop1", "drop2"]), ("nin_bn", [])):
        found = [(n, m.p) for n, m in on_meta(name).named_modules() if isinstance(m, nn.Dropout)]
        assert found == [(label, 0.5) for label in labels]


def test_initialisation_is_the_caffe_files() -> None:
    nets = {name: build(name) for name in ("nin", "nin_cifar")}
    for name, net in nets.items():
        for label, layer in net.named_children():
            if not hasattr(layer, "conv"):
                continue
            small = name == "nin" and label in ("conv1", "conv3", "cccp8")
            assert layer.conv.weight.std().item() == pytest.approx(0.01 if small else 0.05, rel=0.05), (name, label)
            assert not layer.conv.bias.any()


def test_initialisation_of_the_normalised_one_is_torchs() -> None:
    net = build("nin_bn")
    for layer, fan_in in ((net.conv1.conv, 363), (net.cccp8.conv, 1024), (net.fc, 1024)):
        for tensor in (layer.weight, layer.bias):
            assert 0.9 * fan_in**-0.5 < tensor.abs().max().item() <= fan_in**-0.5
    assert net.conv1.bn.eps == 1e-3
