"""Networks over larger images: equal to themselves at their own size, and to a sliding window where that is defined."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from convatlas.errors import UsageError
from convatlas.layers import Whiten, chain
from convatlas.networks import NETWORKS, build
from convatlas.train.evaluating.dense import FullyConvolutional, _averages, dense

SMALL = {  # inputs at which a forward pass is cheap; "" is the network's own
    "lenet5": (1, 32, 32),
    "lenet5_relu": (1, 28, 36),
    "alexnet": (3, 67, 67),
    "alexnet_one_tower": (3, 99, 67),
    "alexnet_owt": (3, 64, 64),
    "alexnet_owt_bn": (3, 80, 80),
    "alexnet_bn": (3, 67, 67),
    "zfnet": (3, 96, 96),
    "vgg11": (3, 32, 64),
    "vgg16_bn": (3, 64, 32),
    "nin": (3, 67, 67),
    "nin_cifar": (3, 32, 32),
    "googlenet": (3, 64, 64),
    "inception_v3": (3, 75, 75),
    "resnet18": (3, 64, 64),
    "preresnet110_cifar": (3, 32, 32),
    "densenet40_k12_cifar": (3, 32, 32),
    "fractalnet20_cifar": (3, 32, 32),
    "squeezenet1_1": (3, 64, 64),
    "enet": (3, 64, 64),
}
SLID = ("lenet5", "lenet5_relu", "alexnet", "alexnet_owt_bn", "zfnet", "vgg11")


def network(name: str, input: tuple[int, int, int]) -> nn.Module:
    net = build(name, classes=7, channels=input[0], input=input[1:], seed=1)
    generator = torch.Generator().manual_seed(3)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):  # as after a training, so that they do something
            module.running_mean.uniform_(-0.1, 0.1, generator=generator)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2, generator=generator)  # type: ignore[union-attr]
    return net.eval()


def images(input: tuple[int, int, int], more: int = 0) -> torch.Tensor:
    return torch.randn(2, input[0], input[1] + more, input[2] + more, generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("name", SMALL)
def test_at_the_training_size_the_answer_is_the_networks(name: str) -> None:
    input = SMALL[name]
    net = network(name, input)
    x = images(input)
    with torch.inference_mode():
        ours, wanted = dense(net, input)(x), net(x)
        larger = dense(net, input)(images(input, 40))
    assert wanted.std() > 0
    torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))
    assert larger.shape == (2, 7)


@pytest.mark.parametrize("name", SLID)
def test_scores_are_those_of_the_head_slid_over_the_maps(name: str) -> None:
    """The layers before the first linear one see the whole image; from there on the network itself is slid."""
    input = SMALL[name]
    net = network(name, input)
    slid = dense(net, input)
    assert isinstance(slid, FullyConvolutional)
    height, width = slid.weight.shape[2:]
    x = images(input, 64)
    flat = next(m for m in net.modules() if isinstance(m, nn.Flatten))
    entered: list[torch.Tensor] = []
    with torch.inference_mode():
        maps, scores = slid.body(x), slid.scores(x)
        for top, left in ((0, 0), (scores.shape[2] - 1, scores.shape[3] - 1), (0, scores.shape[3] // 2)):
            window = maps[:, :, top : top + height, left : left + width]
            hook = _in_place_of(net, flat, window, entered)
            wanted = net(images(input))
            hook.remove()
            ours = scores[:, :, top, left]
            torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-5 * float(wanted.abs().max()))
    assert len(entered) == 3


def _in_place_of(
    net: nn.Module, flat: nn.Module, window: torch.Tensor, entered: list[torch.Tensor]
) -> torch.utils.hooks.RemovableHandle:
    """Lets the network's own head see a window of maps, pooling to a fixed size included."""
    pool = next((m for m in net.modules() if isinstance(m, nn.AdaptiveAvgPool2d)), None)

    def swap(module: nn.Module, given: tuple[torch.Tensor]) -> tuple[torch.Tensor]:
        entered.append(given[0])
        return (window,)

    return (pool or flat).register_forward_pre_hook(swap)


@pytest.mark.parametrize("name", ["lenet5", "lenet5_relu"])
def test_without_padding_it_is_the_whole_network_slid_over_the_image(name: str) -> None:
    """Two poolings of 2: the window moves by 4 pixels."""
    net, input = network(name, (1, 32, 32)), (1, 32, 32)
    x = torch.randn(1, 1, 44, 40, generator=torch.Generator().manual_seed(2))
    slid = dense(net, input)
    assert isinstance(slid, FullyConvolutional)
    with torch.inference_mode():
        scores = slid.scores(x)
        assert scores.shape == (1, 7, 4, 3)
        windows = [
            [net(x[:, :, 4 * i : 4 * i + 32, 4 * j : 4 * j + 32]) for j in range(scores.shape[3])]
            for i in range(scores.shape[2])
        ]
        for i, row in enumerate(windows):
            for j, wanted in enumerate(row):
                torch.testing.assert_close(scores[:, :, i, j], wanted, rtol=1e-4, atol=1e-4)
        mean = torch.stack([w for row in windows for w in row]).mean(dim=0)
        torch.testing.assert_close(slid(x), mean, rtol=1e-4, atol=1e-4)


def test_a_global_average_is_the_mean_of_the_slid_scores() -> None:
    """A linear layer at every place, averaged, is that layer of the average: the network takes larger images itself."""
    net = network("resnet18", (3, 64, 64))
    assert dense(net, (3, 64, 64)) is net
    x = images((3, 64, 64), 64)
    with torch.inference_mode():
        maps = nn.Sequential(*list(net.children())[:-3])(x)
        places = net.fc(maps.permute(0, 2, 3, 1))  # type: ignore[operator]
        torch.testing.assert_close(net(x), places.mean(dim=(1, 2)), rtol=1e-4, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 14), st.integers(1, 14))
def test_pooling_as_a_matrix_is_torchs(have: int, want: int) -> None:
    x = torch.rand(1, 1, have)
    pooled = nn.functional.adaptive_avg_pool1d(x, want)
    torch.testing.assert_close(_averages(have, want) @ x[0, 0], pooled[0, 0])


def test_the_weights_are_the_networks_own() -> None:
    net = network("vgg11", (3, 32, 32))
    slid = dense(net, (3, 32, 32))
    assert isinstance(slid, FullyConvolutional)
    assert slid.weight.data_ptr() == net.fc6.linear.weight.data_ptr()  # type: ignore[union-attr]


class Own(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean(dim=(2, 3))


LINE = "the network cannot be slid over larger images: "
ADVICE = "; use the test view center or ten-crop"


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (Own(), "no layer flattens its maps"),
        (chain(conv=nn.Conv2d(3, 4, 3), flat=nn.Flatten()), "no linear layer follows where its maps are flattened"),
        (
            chain(white=Whiten("gcn", (3, 8, 8)), flat=nn.Flatten(), fc=nn.Linear(192, 2)),
            "it whitens images of one size",
        ),
    ],
)
def test_a_network_that_cannot(net: nn.Module, reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        dense(net.eval(), (3, 8, 8))
    assert str(caught.value) == f"{LINE}{reason}{ADVICE}"


def test_a_layer_of_one_size() -> None:
    class Fixed(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + torch.zeros(3, 8, 8, device=x.device)

    with pytest.raises(UsageError, match=r"^the network cannot be slid over larger images: at 3x16x16: .*ten-crop$"):
        dense(chain(fixed=Fixed(), flat=nn.Flatten(), fc=nn.Linear(192, 2)).eval(), (3, 8, 8))


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, net in NETWORKS.items() if net.classes])
def test_every_network_of_the_catalogue_can(name: str) -> None:
    """Found without arithmetic, at the network's own input."""
    input = NETWORKS[name].input
    with torch.device("meta"):
        net = NETWORKS[name].build(classes=7, channels=input[0], input=input[1:]).eval()
    x = torch.empty(1, input[0], input[1] + 64, input[2] + 64, device="meta")
    with torch.inference_mode():
        assert dense(net, input)(x).shape == (1, 7)
