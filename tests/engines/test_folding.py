"""Folded batch norm: equal in float64 to the network itself, by PyTorch's own fusion and by the formula."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

from convatlas.engines import fold
from convatlas.engines.folding import same_answers
from convatlas.layers import drop_heads
from convatlas.networks import NETWORKS, build

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def stirred(net: nn.Module) -> nn.Module:
    """With statistics, scales and shifts by which it matters whether they are used, in float64."""
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, NORMS) and module.running_var is not None:
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            if module.affine:
                module.weight.data.uniform_(0.5, 1.5, generator=generator)
                module.bias.data.normal_(0, 0.3, generator=generator)
    return net.double().eval()


def norms(net: nn.Module) -> int:
    return sum(isinstance(m, NORMS) for m in net.modules())


def images(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def assert_folded(net: nn.Module, x: Tensor, left: int = 0) -> nn.Module:
    before = {name: t.clone() for name, t in net.state_dict().items()}
    with torch.no_grad():
        expected, folded = net(x.clone()), fold(net)
        found = folded(x.clone())
    assert same_answers(found, expected, 1e-9)
    assert norms(folded) == left
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())
    return folded


LAYERS: list[tuple[nn.Module, nn.Module, tuple[int, ...]]] = [
    (nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False), nn.BatchNorm2d(6, eps=0.1), (2, 4, 9, 7)),
    (nn.Conv1d(3, 5, 3, padding=1), nn.BatchNorm1d(5), (2, 3, 8)),
    (nn.Conv3d(2, 3, 2), nn.BatchNorm3d(3), (2, 2, 4, 4, 4)),
    (nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"), nn.BatchNorm2d(4, affine=False), (2, 3, 6, 6)),
    (nn.ConvTranspose2d(4, 6, 3, stride=2), nn.BatchNorm2d(6), (2, 4, 5, 5)),
    (nn.Linear(7, 5, bias=False), nn.BatchNorm1d(5), (4, 7)),
]


@pytest.mark.parametrize(("layer", "norm", "shape"), LAYERS, ids=lambda x: type(x).__name__)
def test_a_layer_takes_the_norm_as_pytorch_fuses_it(layer: nn.Module, norm: nn.Module, shape: tuple[int, ...]) -> None:
    net = stirred(nn.Sequential(layer, norm))
    folded = assert_folded(net, images(*shape))
    if not norm.affine:
        return  # PyTorch's own function needs a scale
    if isinstance(layer, nn.Linear):
        theirs: nn.Module = fuse_linear_bn_eval(net[0], net[1])
    else:
        theirs = fuse_conv_bn_eval(net[0], net[1], transpose=isinstance(layer, nn.ConvTranspose2d))
    mine = folded.state_dict()
    torch.testing.assert_close(mine["0.weight"], theirs.weight.data, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(mine["0.bias"], theirs.bias.data, rtol=1e-12, atol=1e-12)


def test_a_transposed_convolution_in_groups_keeps_its_answers() -> None:
    assert_folded(stirred(nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6))), images(2, 4, 5, 5))


def test_the_formula_of_the_paper() -> None:
    net = stirred(nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0.25)))
    (w, b), norm = (p.item() for p in net[0].parameters()), net[1]
    scale = norm.weight.item() / (norm.running_var.item() + 0.25) ** 0.5
    folded = fold(net).state_dict()
    assert folded["0.weight"].item() == pytest.approx(w * scale, rel=1e-12)
    assert folded["0.bias"].item() == pytest.approx(
        (b - norm.running_mean.item()) * scale + norm.bias.item(), rel=1e-12
    )


def test_float32_weights_are_folded_in_float64() -> None:
    net = stirred(nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)))
    exact = fold(net).state_dict()
    rounded = fold(deepcopy(net).float()).state_dict()
    assert rounded["0.weight"].dtype == torch.float32
    scale = (net[1].weight / (net[1].running_var + net[1].eps).sqrt()).reshape(-1, 1, 1, 1).detach()
    # The scale has float32's rounding from the parameters it was given in; nothing is lost on the way.
    assert (rounded["0.weight"].double() - exact["0.weight"]).abs().max() <= 2.5 * 2**-23 * (
        net[0].weight.detach() * scale
    ).abs().max()


def test_dropout_and_identity_between_are_passed_over() -> None:
    net = nn.Sequential(nn.Conv2d(2, 3, 1), nn.Identity(), nn.Dropout(0.5), nn.BatchNorm2d(3))
    assert_folded(stirred(net), images(2, 2, 4, 4))


class Other(nn.Module):
    """A convolution whose output, or which itself, is used in other ways too."""

    def __init__(self, how: str):
        super().__init__()
        self.how = how
        self.conv, self.bn = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3)
        self.again = nn.Conv2d(3, 3, 3, padding=1)
        if how == "shared":
            self.again.weight = self.conv.weight

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv(x)
        match self.how:
            case "output used twice":
                return self.bn(y) + y
            case "layer called twice":
                return self.bn(y) + self.conv(x + 1)
            case "norm called twice":
                return self.bn(y) + self.bn(self.again(x))
            case "weight read":
                return self.bn(y) * self.conv.weight.sum()
            case "shared":
                return self.bn(y) + self.again(x)
            case "changed in place":
                kept = y
                y += 1
                return self.bn(y) * kept
            case "relu between":
                return self.bn(y.relu())
        return self.bn(y)


@pytest.mark.parametrize(
    "how",
    [
        *(
            "output used twice",
            "layer called twice",
            "norm called twice",
            "weight read",
            "shared",
            "relu between",
            "changed in place",
        ),
        *("hook", "weight norm", "batch statistics", "infinite"),
    ],
)
def test_what_would_change_answers_is_left(how: str) -> None:
    net = Other(how)
    if how == "batch statistics":
        net.bn = nn.BatchNorm2d(3, track_running_stats=False)
    net = stirred(net)
    if how == "hook":
        net.conv.register_forward_hook(lambda module, given, out: out * 2)
    if how == "weight norm":
        nn.utils.parametrizations.weight_norm(net.conv)
    if how == "infinite":
        net.bn.running_var.zero_()
        net.bn.eps = 0.0
        assert norms(fold(net)) == 1
        return
    assert_folded(net, images(2, 3, 6, 6), left=1)


def test_a_network_in_training_mode_is_left() -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    assert norms(fold(net)) == 1


class Untraceable(nn.Module):
    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) if x.abs().sum() > 0 else x


def test_without_a_trace_neighbours_are_folded() -> None:
    conv = nn.Conv2d(4, 4, 1)
    body = nn.Sequential(
        *(nn.Conv2d(3, 4, 3), nn.Dropout(), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4)),
        *(conv, nn.BatchNorm2d(4), conv),
    )
    assert_folded(stirred(Untraceable(body)), images(2, 3, 8, 8), left=2)


FAMILIES = ("nin_bn", "googlenet_bn", "resnet20_cifar", "plain20_cifar", "preresnet110_cifar", "fractalnet20_cifar")
FAMILIES += ("densenet_bc100_k12_cifar", "resnet110_sd_cifar", "enet")


def of_catalogue(name: str) -> tuple[nn.Module, Tensor]:
    """Small images, where the network takes them."""
    channels, height, width = NETWORKS[name].input
    if max(height, width) > 64 and NETWORKS[name].smallest:
        height = width = max(NETWORKS[name].smallest, 64)
    net = build(name, seed=0, input=(height, width))
    drop_heads(net)
    return stirred(net), images(1, channels, height, width)


def without_a_layer_before(net: nn.Module, x: Tensor) -> int:
    """How many norms get something else than what a convolution or a linear layer gave, as a forward pass shows."""
    given: dict[int, Tensor] = {}
    fed: list[bool] = []
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(lambda m, x, out: given.update({id(out): out}))
        if isinstance(module, NORMS):
            module.register_forward_pre_hook(lambda m, x: fed.append(id(x[0]) in given))
    with torch.no_grad():
        net(x.clone())
    return fed.count(False)


def assert_all_that_can_are_folded(name: str) -> None:
    net, x = of_catalogue(name)
    left = norms(fold(net))
    assert_folded(net, x, left)
    # DenseNet's first convolution goes into a norm and into a concatenation.
    assert left - without_a_layer_before(net, x) == name.startswith("densenet")


@pytest.mark.parametrize("name", FAMILIES)
def test_families_of_the_catalogue(name: str) -> None:
    assert_all_that_can_are_folded(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_of_the_catalogue(name: str) -> None:
    assert_all_that_can_are_folded(name)


@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet_v2_x0_5"])
def test_networks_of_torchvision(name: str) -> None:
    import torchvision

    assert_folded(stirred(torchvision.models.get_model(name, weights=None)), images(1, 3, 64, 64))
