"""Stages as features: the maps of plain computation, the network's own weights, and what a detector asks for."""

import copy
from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from convatlas.errors import BadInput, UnknownName
from convatlas.features import features
from convatlas.layers import Concat, WithHeads, chain
from convatlas.networks import NETWORKS, build

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def stepwise(net: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Every child's output with no operation in place: each module gets a copy and what it gives is copied."""
    out = {}
    for name, module in net.named_children():
        for part in module.modules():
            if hasattr(part, "inplace"):
                part.inplace = False
        x = module(x.clone())
        out[name] = x.clone()
        if x.dim() != 4:
            break
    return out


def test_the_maps_of_resnet18_are_those_of_plain_computation() -> None:
    net = build("resnet18", classes=5)
    plain = copy.deepcopy(net)
    maps = features(net, ["conv1", "relu1", "pool1", "conv2", "conv3", "conv4", "conv5"])(IMAGES)
    expected = stepwise(plain, IMAGES)
    assert list(maps) == ["conv1", "relu1", "pool1", "conv2", "conv3", "conv4", "conv5"]
    for label, found in maps.items():
        assert torch.equal(found, expected[label]), label
    assert maps["conv1"].min() < 0  # so the ReLU in place after it would have shown


def test_channels_and_strides_are_those_of_the_maps() -> None:
    found = features(build("resnet50", classes=5), (4, 8, 16, 32))
    assert found.labels == ("conv2", "conv3", "conv4", "conv5")
    assert found.channels == (256, 512, 1024, 2048)  # Table 1: four times 64, 128, 256, 512
    assert found.strides == (4, 8, 16, 32)
    for map_, channels, stride in zip(found(IMAGES).values(), found.channels, found.strides, strict=True):
        assert map_.shape == (2, channels, 64 // stride, 64 // stride)


def test_labels_and_strides_may_be_mixed_and_come_in_the_networks_order() -> None:
    found = features(build("resnet18", classes=5), [32, "conv3", 8, 2])
    assert found.labels == ("relu1", "conv3", "conv5")
    assert found.copied == frozenset()  # pooling and convolution read relu1 and conv3, they do not write


def test_weights_are_the_networks_own_and_nothing_later_is_run() -> None:
    net = build("resnet18", classes=5)
    found = features(net, ["conv3"])
    own, theirs = dict(net.named_parameters()), dict(found.named_parameters())
    assert theirs and all(own[name] is p for name, p in theirs.items())
    assert {name.partition(".")[0] for name in theirs} == {"conv1", "conv2", "conv3"}
    net.conv4.register_forward_hook(lambda *_: pytest.fail("conv4 was run"))
    before = net.conv1.conv.weight.clone()
    optimiser = torch.optim.SGD(found.parameters(), 0.1)
    found(IMAGES)["conv3"].square().mean().backward()
    optimiser.step()
    assert not torch.equal(net.conv1.conv.weight, before)
    assert net.fc.weight.grad is None


def test_the_network_is_left_as_it_was() -> None:
    net = build("resnet18", classes=5)
    net.conv2.eval()
    modes = {name: module.training for name, module in net.named_modules()}
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    state = torch.get_rng_state()
    features(net, [4, 8, 16, 32])
    assert {name: module.training for name, module in net.named_modules()} == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)


class Doubling(nn.Module):
    """Writes to its input through a view, without being an activation layer."""

    def forward(self, x: Tensor) -> Tensor:
        x.flatten(1).mul_(2)
        return x


class Picky(nn.Module):
    """Works in place, and cannot be tried out on the meta device."""

    def forward(self, x: Tensor) -> Tensor:
        if x.is_meta:
            raise NotImplementedError
        return x.mul_(2)


class Coin(nn.Module):
    """Works in place in training, or not at all, as a coin falls that is tossed at each call."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(2) if self.training and torch.rand((), device="cpu") < 0.5 else x


@pytest.mark.parametrize(
    ("later", "copied"),
    [
        (lambda: [nn.ReLU(inplace=True)], True),
        (lambda: [nn.Identity(), nn.ReLU(inplace=True)], True),
        (lambda: [nn.Dropout(0.5), nn.ReLU(inplace=True)], True),  # dropout passes its input on in evaluation
        (lambda: [nn.Dropout(0.5, inplace=True)], True),  # and works in place in training
        (lambda: [Doubling()], True),
        (lambda: [Picky()], True),
        (lambda: [Coin()], True),
        (lambda: [nn.ReLU()], False),
        (lambda: [nn.MaxPool2d(2), nn.ReLU(inplace=True)], False),
        (lambda: [nn.BatchNorm2d(4), nn.ReLU(inplace=True)], False),
    ],
    ids=["relu", "identity", "dropout", "dropout in place", "view", "picky", "coin", "relu apart", "pool", "norm"],
)
@pytest.mark.parametrize("training", [True, False])
def test_a_map_stays_what_it_was_whatever_comes_after(
    later: Callable[[], list[nn.Module]], copied: bool, training: bool
) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), *later()).train(training)
    found = features(net, ["0", str(len(net) - 1)])
    assert ("0" in found.copied) == copied
    with torch.no_grad():
        assert torch.equal(found(IMAGES)["0"], net[0](IMAGES))


def test_a_faster_rcnn_stands_on_it_and_trains() -> None:
    """torchvision's detector with a feature pyramid: one step gives finite losses, and gradients down to conv1."""
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.ops import FeaturePyramidNetwork, MultiScaleRoIAlign

    net = build("resnet50")
    body = features(net, (4, 8, 16, 32))
    backbone = nn.Sequential(body, FeaturePyramidNetwork(list(body.channels), 32))
    backbone.out_channels = 32
    detector = FasterRCNN(
        backbone,
        num_classes=3,
        rpn_anchor_generator=AnchorGenerator(((8,), (16,), (32,), (64,)), ((0.5, 1.0, 2.0),) * 4),
        box_roi_pool=MultiScaleRoIAlign(list(body.labels), 7, 2),
        min_size=64,
        max_size=64,
    )
    boxes = torch.tensor([[4.0, 4.0, 40.0, 44.0]])
    targets = [{"boxes": boxes, "labels": torch.tensor([1])}, {"boxes": boxes + 8, "labels": torch.tensor([2])}]
    losses = detector.train()([image.sigmoid() for image in IMAGES], targets)
    sum(losses.values()).backward()
    assert len(losses) == 4 and all(torch.isfinite(loss) for loss in losses.values())
    gradient = net.conv1.conv.weight.grad
    assert gradient is not None and torch.isfinite(gradient).all() and gradient.abs().sum() > 0
    assert net.fc.weight.grad is None


def test_it_can_be_copied_and_exported() -> None:
    found = features(build("resnet18", classes=5).eval(), ["conv1", "conv3"])
    twin = copy.deepcopy(found)
    assert twin.channels == found.channels
    assert next(twin.parameters()) is not next(found.parameters())
    program = torch.export.export(found, (IMAGES,)).module()
    with torch.no_grad():
        maps, others, exported = found(IMAGES), twin(IMAGES), program(IMAGES)
    assert isinstance(maps, OrderedDict) and list(exported) == ["conv1", "conv3"]
    for label in maps:
        assert torch.equal(maps[label], others[label])
        assert torch.equal(maps[label], exported[label])


def test_heads_are_passed_over() -> None:
    modules = {"conv1": nn.Conv2d(3, 4, 3, 2), "conv2": nn.Conv2d(4, 6, 3), "pool": nn.AdaptiveAvgPool2d(1)}
    net = WithHeads({**modules, "aux1": nn.Conv2d(4, 2, 1)}, {"aux1": "conv1"}, 0.3)
    found = features(net, ["conv1", "conv2", "pool"])
    assert found.labels == ("conv1", "conv2", "pool")
    assert (found.channels, found.strides) == ((4, 6, 6), (2, 2, 224))
    assert "aux1" not in dict(found.named_children())
    with pytest.raises(UnknownName, match=r"^no stage named 'aux1'; known: conv1, conv2, pool$"):
        features(net, ["aux1"])


class Passing(nn.Sequential):
    """A forward of its own that hands one module's output to the next, with a second argument in training."""

    def forward(self, x: Tensor) -> Tensor:
        for module in self:
            x = module(x, inplace=True) if self.training else module(x)
        return x


def test_a_forward_of_its_own_is_taken_where_it_is_a_chain() -> None:
    net = Passing(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3, 2))
    found = features(net, ["1"])
    assert (found.channels, found.strides) == ((5,), (2,))
    assert net.training and not any(module._forward_hooks for module in net)
    with torch.no_grad():
        assert torch.equal(found(IMAGES)["1"], net.eval()(IMAGES))


def test_inputs_that_differ() -> None:
    grey = features(build("resnet20_cifar", channels=1), [1, 2, 4])
    assert (grey.labels, grey.channels) == (("conv2", "conv3", "conv4"), (16, 32, 64))
    small = features(build("resnet18"), ["pool5"], input=(3, 96, 96))
    assert small.strides == (96,)


@pytest.mark.parametrize(
    ("stages", "kind", "line"),
    [
        (["conv9"], UnknownName, "no stage named 'conv9'; did you mean conv5, conv4, conv3?"),
        (
            [64],
            BadInput,
            "no stage has stride 64 at input 3x224x224; there are 2 (relu1), 4 (conv2), 8 (conv3), 16 (conv4), "
            "32 (conv5)",
        ),
        (
            ["conv5", "fc"],
            BadInput,
            "fc gives no feature map at input 3x224x224: the output of flatten has the shape (512,) for an image",
        ),
        ([], BadInput, "no stage asked for; give labels or strides, for example ['fc']"),
        ([True], BadInput, "stage True is neither a label nor a stride; give for example 'conv4' or 16"),
        ([4.0], BadInput, "stage 4.0 is neither a label nor a stride; give for example 'conv4' or 16"),
    ],
)
def test_what_is_refused(stages: list[str | int], kind: type[Exception], line: str) -> None:
    with pytest.raises(kind) as caught:
        features(build("resnet18"), stages)
    assert str(caught.value) == line


@pytest.mark.parametrize(
    ("net", "name"),
    [
        (nn.Linear(3, 3), "Linear"),
        (Concat(one=nn.Conv2d(3, 4, 1), three=nn.Conv2d(3, 4, 3, padding=1)), "Concat"),
        (nn.Sequential(), "Sequential"),
    ],
    ids=["layer", "branches", "empty"],
)
def test_a_network_that_is_no_chain_is_refused(net: nn.Module, name: str) -> None:
    with pytest.raises(BadInput) as caught:
        features(net, ["three"])
    assert str(caught.value) == (
        f"{name} is no chain of stages: its top level must be an nn.Sequential, as of the networks of `convatlas list`"
    )


def test_an_input_that_does_not_fit_is_named() -> None:
    net = chain(conv1=nn.Conv2d(3, 4, 3), conv2=nn.Conv2d(5, 4, 3))
    with pytest.raises(BadInput) as caught:
        features(net, ["conv2"])
    assert str(caught.value).startswith("conv2 gives no feature map at input 3x224x224: ")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", [n for n, known in NETWORKS.items() if known.classes and known.input[1] > 32])
def test_every_large_network_gives_its_last_map(name: str) -> None:
    with torch.device("meta"):
        net = build(name)
    *_, height, width = NETWORKS[name].input
    for stride in (4, 8, 16):
        try:
            found = features(net, [stride], input=NETWORKS[name].input)
        except BadInput as error:
            assert "no stage has stride" in str(error)
            continue
        map_ = found(torch.empty(2, *NETWORKS[name].input, device="meta"))[found.labels[0]]
        assert map_.shape[1] == found.channels[0]
        assert abs(map_.shape[2] - height / stride) <= 4 and abs(map_.shape[3] - width / stride) <= 4
