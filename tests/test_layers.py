"""Pieces that papers share: names, shapes, and the variance that the initialisation's source gives."""

import warnings
from math import sqrt
from pathlib import Path

import pytest
import torch
from torch import nn

from convatlas import account
from convatlas.layers import Whiten, chain, conv_bn, initialise_he


def test_chain_keeps_names_and_order() -> None:
    net = chain(fc1=nn.Linear(3, 4), relu1=nn.ReLU(), fc2=nn.Linear(4, 2))
    assert [n for n, _ in net.named_children()] == ["fc1", "relu1", "fc2"]
    assert [n for n, _ in net.named_parameters()] == ["fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"]
    x = torch.randn(5, 3)
    assert torch.equal(net(x), net.fc2(net.fc1(x).clamp(min=0)))


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("side", [1, 7, 8])
def test_conv_bn_gives_the_rounded_up_share_of_the_size(kernel: int, stride: int, side: int) -> None:
    layer = conv_bn(2, 6, kernel, stride).eval()
    assert layer(torch.zeros(1, 2, side, side)).shape == (1, 6, -(-side // stride), -(-side // stride))
    assert sum(p.numel() for p in layer.parameters()) == 2 * 6 * kernel**2 + 2 * 6


def test_he_initialisation_has_variance_two_by_fan_in() -> None:
    net = chain(conv=nn.Conv2d(64, 128, 3), fc=nn.Linear(500, 300))
    torch.manual_seed(0)
    initialise_he(net)
    for weight, fan_in in ((net.conv.weight, 64 * 9), (net.fc.weight, 500)):
        assert weight.std().item() == pytest.approx(sqrt(2 / fan_in), rel=0.02)
        assert abs(weight.mean().item()) < 0.02 * sqrt(2 / fan_in)
    assert not net.conv.bias.any()
    assert not net.fc.bias.any()


@pytest.mark.parametrize("kind", ["gcn", "zca"])
def test_whitening_is_counted_and_travels_with_the_weights(kind: str) -> None:
    net = chain(whiten=Whiten(kind, (3, 6, 5)), conv=nn.Conv2d(3, 4, 3)).eval()
    table = account(net, (3, 6, 5))
    assert not table.uncounted
    product = 90 * 90 if kind == "zca" else 0
    assert table.totals.macs == product + 4 * 3 * 9 * 4 * 3 and table.totals.params == 4 * 27 + 4
    names = {"whiten.mean", "whiten.matrix"} if kind == "zca" else set()
    assert set(net.state_dict()) == names | {"conv.weight", "conv.bias"}


@pytest.mark.parametrize("kind", ["gcn", "zca"])
def test_whitening_is_exported(kind: str, tmp_path: Path) -> None:
    runtime = pytest.importorskip("onnxruntime")
    layer = Whiten(kind, (3, 6, 5)).eval()
    if kind == "zca":
        layer.mean.copy_(torch.randn(90, generator=torch.Generator().manual_seed(0)))
        layer.matrix.copy_(torch.randn(90, 90, generator=torch.Generator().manual_seed(1)))
    images = torch.rand(4, 3, 6, 5, generator=torch.Generator().manual_seed(2))
    images[1] = 0.3
    program = torch.export.export(layer, (images,), dynamic_shapes=({0: torch.export.Dim("n")},))
    assert torch.equal(program.module()(images[:2]), layer(images[:2]))
    file = tmp_path / "whiten.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(program, (images,), file, dynamo=True, verbose=False)
    session = runtime.InferenceSession(file)
    given = session.run(None, {session.get_inputs()[0].name: images.numpy()})[0]
    assert torch.from_numpy(given) == pytest.approx(layer(images), abs=1e-3)
