"""Whole networks on inputs that do not fit, and the input that would."""

import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convatlas.account import account
from convatlas.errors import BadInput


def message(net: nn.Module, shape: tuple[int, ...]) -> str:
    with pytest.raises(BadInput) as caught:
        account(net, shape)
    text = str(caught.value)
    assert "\n" not in text
    return text


class Small(nn.Module):
    """LeNet's shape; the number of features as many a first network gets it."""

    def __init__(self, features: int = 400, view: bool = False) -> None:
        super().__init__()
        self.conv1, self.conv2, self.fc = nn.Conv2d(3, 6, 5), nn.Conv2d(6, 16, 5), nn.Linear(features, 10)
        self.features, self.view = features, view

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        return self.fc(x.view(-1, self.features) if self.view else torch.flatten(x, 1))


def named(name: str, **options: Any) -> nn.Module:
    from torchvision import models

    with torch.device("meta"):
        return models.get_model(name, weights=None, **options).eval()


def resnet_with_a_wrong_layer() -> nn.Module:
    net = named("resnet18")
    net.layer2[0].conv1 = nn.Conv2d(128, 128, 3, 2, 1, device="meta")
    return net


def vgg_without_its_pooling() -> nn.Module:
    net = named("vgg16")
    net.avgpool = nn.Identity()
    return net


WHOLE: list[tuple[Callable[[], nn.Module], tuple[int, ...], str]] = [
    (
        lambda: named("alexnet"),
        (1, 3, 32, 32),
        "at features.12 (max_pool2d): got a map of 1x1 (1x256x1x1), smaller than the window of 3x3; "
        "the smallest input that works is 63x63",
    ),
    (
        lambda: named("vgg16"),
        (1, 3, 16, 16),
        "at features.30 (max_pool2d): got a map of 1x1 (1x512x1x1), smaller than the window of 2x2; "
        "the smallest input that works is 32x32",
    ),
    (
        lambda: named("inception_v3", init_weights=False),
        (1, 3, 32, 32),
        "at Mixed_6a.branch3x3.conv (conv2d): got a map of 1x1 (1x288x1x1), smaller than the window of 3x3; "
        "the smallest input that works is 75x75",
    ),
    (
        resnet_with_a_wrong_layer,
        (1, 3, 224, 224),
        "at layer2.0.conv1 (conv2d): got 64 channels (1x64x56x56), expects 128 (weight 128x128x3x3); "
        "set in_channels=64, or out_channels=128 in layer1.1.conv2",
    ),
    (
        lambda: named("resnet18"),
        (1, 224, 224, 3),
        "at conv1 (conv2d): got 224 channels (1x224x224x3), expects 3 (weight 64x3x7x7); "
        "the channels stand last here: permute the input to 1x3x224x224",
    ),
    (
        vgg_without_its_pooling,
        (1, 3, 227, 299),
        "at classifier.0 (linear): got 32256 features (1x32256), expects 25088 (weight 4096x25088); "
        "set in_features=32256",
    ),
    (
        vgg_without_its_pooling,
        (1, 3, 32, 32),
        "at classifier.0 (linear): got 512 features (1x512), expects 25088 (weight 4096x25088); "
        "set in_features=512; the smallest input that works is 224x224",
    ),
    (
        Small,
        (1, 3, 8, 8),
        "at conv2 (conv2d): got a map of 2x2 (1x6x2x2), smaller than the window of 5x5; "
        "the smallest input that works is 32x32",
    ),
    (
        Small,
        (1, 3, 224, 224),
        "at fc (linear): got 44944 features (1x44944), expects 400 (weight 10x400); "
        "set in_features=44944; the smallest input that works is 32x32",
    ),
    (
        lambda: Small(401),
        (1, 3, 32, 32),
        "at fc (linear): got 400 features (1x400), expects 401 (weight 10x401); set in_features=400",
    ),
    (
        lambda: Small(401),
        (1, 3, 8, 8),
        "at conv2 (conv2d): got a map of 2x2 (1x6x2x2), smaller than the window of 5x5; "
        "an input of 32x32 is large enough here",
    ),
    (
        lambda: Small(400, view=True),
        (1, 3, 28, 28),
        "at the network's own forward (view): got 1x16x4x4, which has 256 elements, expects -1x400; "
        "take 256 in place of 400, or flatten(1); the smallest input that works is 32x32",
    ),
]


@pytest.mark.parametrize(("make", "shape", "text"), WHOLE, ids=lambda v: v[:50] if isinstance(v, str) else "")
def test_whole_networks(make: Callable[[], nn.Module], shape: tuple[int, ...], text: str) -> None:
    assert message(make(), shape) == text


@pytest.mark.parametrize(
    ("make", "shape", "text"),
    [w for w in WHOLE if "smallest" in w[2]],
    ids=lambda v: v[:50] if isinstance(v, str) else "",
)
def test_torch_takes_the_smallest_input_and_none_smaller(
    make: Callable[[], nn.Module], shape: tuple[int, ...], text: str
) -> None:
    side = int(text.rpartition("x")[2])
    net = make().to("meta")
    with torch.no_grad():
        net(torch.empty(2, 3, side, side, device="meta"))
        with pytest.raises(RuntimeError):
            net(torch.empty(2, 3, side - 1, side - 1, device="meta"))


def test_a_search_takes_few_walks(monkeypatch: pytest.MonkeyPatch) -> None:
    walks = []
    package = sys.modules["convatlas.account"]
    walked = package._walked
    monkeypatch.setattr(package, "_walked", lambda *a: walks.append(1) or walked(*a))
    for side in (1, 7, 40):
        walks.clear()
        message(named("alexnet"), (1, 3, side, side))
        assert len(walks) <= 13
    walks.clear()
    message(nn.Sequential(nn.Conv2d(3, 3, 1), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(8, 2)), (1, 3, 50, 50))
    assert len(walks) == 2  # the number of features does not depend on the input


def test_a_search_leaves_the_network_alone() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 7), nn.BatchNorm2d(8), nn.MaxPool2d(4)).train()
    before = {k: (id(v), v.clone()) for k, v in net.state_dict(keep_vars=True).items()}
    message(net, (1, 3, 5, 5))
    assert all(
        id(v) == before[k][0] and torch.equal(v, before[k][1]) for k, v in net.state_dict(keep_vars=True).items()
    )
    assert net.training
