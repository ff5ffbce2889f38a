"""Inception-v3 against torchvision with copied weights, osmr's and google-research's figures, and Table 1."""

from collections.abc import Callable
from functools import cache

import pytest
import torch
from torch import nn

from convatlas.account import account
from convatlas.errors import BadInput
from convatlas.layers import Heads, drop_heads
from convatlas.networks import NETWORKS, build
from convatlas.table import Table

Differences = Callable[..., list[float]]

PARAMETERS = 23_834_568  # osmr/imgclsmob
WITH_HEAD = 27_161_264  # torchvision's metadata
MACS = 5.713e9  # torchvision's metadata
# 1x1 to 128 maps of 5x5, 5x5 to 768, 1000 classes
HEAD_MACS = 25 * 768 * 128 + 25 * 128 * 768 + 768 * 1000


@cache
def table() -> Table:
    with torch.device("meta"):
        net = build("inception_v3")
    drop_heads(net)
    return account(net.eval(), (3, 299, 299))


def test_parameters_and_macs() -> None:
    assert table().totals.params == PARAMETERS
    assert round(table().totals.macs, -6) == MACS
    with torch.device("meta"):
        net = build("inception_v3")
    whole = account(net.train(), (3, 299, 299)).totals
    assert whole.params == WITH_HEAD
    assert whole.macs == table().totals.macs + HEAD_MACS


def test_torchvisions_own_figures() -> None:
    from torchvision.models import Inception_V3_Weights

    meta = Inception_V3_Weights.IMAGENET1K_V1.meta
    assert meta["num_params"] == WITH_HEAD
    assert meta["_ops"] == MACS / 1e9
    assert min(meta["min_size"]) == NETWORKS["inception_v3"].smallest


def test_logits_equal_torchvisions_with_its_weights(differences: Differences) -> None:
    assert differences("inception_v3", (107, 91)) == [0]


def test_logits_and_the_head_s_equal_torchvisions_in_training(differences: Differences) -> None:
    """At the network's own size, below which torchvision's head fails."""
    assert differences("inception_v3", (299, 299), train=True) == [0, 0]


# Table 1, except for the stem's last convolutions, which differ in the released network: there TF-slim's comments.
SIZES = {
    "conv2d_1a_3x3": (32, 149, 149),
    "conv2d_2a_3x3": (32, 147, 147),
    "conv2d_2b_3x3": (64, 147, 147),
    "maxpool_3a_3x3": (64, 73, 73),
    "conv2d_3b_1x1": (80, 73, 73),
    "conv2d_4a_3x3": (192, 71, 71),
    "maxpool_5a_3x3": (192, 35, 35),
    "mixed_5b": (256, 35, 35),
    "mixed_5c": (288, 35, 35),
    "mixed_5d": (288, 35, 35),
    "mixed_6a": (768, 17, 17),
    "mixed_6b": (768, 17, 17),
    "mixed_6c": (768, 17, 17),
    "mixed_6d": (768, 17, 17),
    "mixed_6e": (768, 17, 17),
    "mixed_7a": (1280, 8, 8),
    "mixed_7b": (2048, 8, 8),
    "mixed_7c": (2048, 8, 8),
    "avgpool_1a_8x8": (2048, 1, 1),
}


def test_labels_and_sizes_of_maps() -> None:
    assert {label: table().under(label).rows[-1].output[1:] for label in SIZES} == SIZES
    with torch.device("meta"):
        net = build("inception_v3")
    rest = {"auxlogits", "flatten", "dropout_1b", "logits"}
    assert [n for n, _ in net.named_children() if n not in rest] == list(SIZES)


def test_receptive_field() -> None:
    """google-research/receptive_field: 1311 with stride 32."""
    last = table().under("mixed_7c").rows[-1]
    assert (last.field, last.stride) == ((1311, 1311), (32, 32))


def test_a_7x7_is_a_1x7_and_a_7x1() -> None:
    """Figure 6: the branch sees 7x7 for 2/7 of the weights; each of the two looks along one axis."""
    rows = {r.path.split(".")[-2]: r for r in table().under("mixed_6e.branch_1").rows if r.op == "conv2d"}
    before = rows["conv2d_0a_1x1"]
    stride = before.stride[0]
    grown = {n: tuple((b - a) // stride for a, b in zip(before.field, r.field, strict=True)) for n, r in rows.items()}
    assert grown == {"conv2d_0a_1x1": (0, 0), "conv2d_0b_1x7": (0, 6), "conv2d_0c_7x1": (6, 6)}
    assert rows["conv2d_0b_1x7"].params + rows["conv2d_0c_7x1"].params == 192 * 192 * 7 * 7 * 2 // 7


def test_maps_shrink_without_a_bottleneck() -> None:
    """Section 5: where maps shrink to a half, every branch does it itself, and the channels grow."""
    for label in ("mixed_6a", "mixed_7a"):
        with torch.device("meta"):
            module = build("inception_v3").get_submodule(label)
        strided = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.MaxPool2d) and m.stride in (2, (2, 2))]
        assert len(strided) == len(module) == 3


# ---- The auxiliary classifier ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("height", "width"), [(75, 75), (128, 96), (299, 75)])
def test_the_head_works_at_any_size(height: int, width: int) -> None:
    net = build("inception_v3", classes=5, channels=1, input=(height, width))
    x = torch.randn(2, 1, height, width)
    with torch.no_grad():
        given = net.train()(x)
        logits = net.eval()(x)
    assert isinstance(given, Heads)
    assert given.weight == 0.4
    assert [t.shape for t in (given.logits, *given.auxiliary, logits)] == [(2, 5)] * 3


def test_small_images_leave_the_shapes_of_weights_alone() -> None:
    shapes = []
    for size in ((299, 299), (75, 75), (75, 500), (500, 500)):
        with torch.device("meta"):
            shapes.append({n: p.shape for n, p in build("inception_v3", input=size).named_parameters()})
    assert all(s == shapes[0] for s in shapes)


def test_what_the_head_sees() -> None:
    net = build("inception_v3", classes=3, input=(75, 75))
    net.train()(torch.randn(2, 3, 75, 75)).auxiliary[0].square().sum().backward()
    still = {n for n, m in net.named_children() if any(p.grad is None for p in m.parameters())}
    assert still == {"mixed_7a", "mixed_7b", "mixed_7c", "logits"}


def test_the_smallest_image() -> None:
    with pytest.raises(RuntimeError):
        NETWORKS["inception_v3"].build(classes=2, channels=3, input=(74, 74)).eval()(torch.zeros(1, 3, 74, 74))
    with pytest.raises(BadInput) as refusal:
        build("inception_v3", input=(74, 299))
    assert str(refusal.value) == "inception_v3 cannot take images of 74x299; the smallest that works is 75x75"


# ---- Initialisation -------------------------------------------------------------------------------------------------


def test_weights_are_drawn_as_in_the_authors_code() -> None:
    """A normal distribution cut off at two deviations, whose own deviation is 0.8796 of the uncut one's."""
    special = {"auxlogits.conv2d_2a_5x5.conv": 0.01, "auxlogits.logits": 0.001, "logits": 0.01}
    for name, module in build("inception_v3").named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            std = special.pop(name, 0.1)
            assert module.weight.abs().max() <= 2 * std * (1 + 1e-6)
            assert module.weight.std().item() == pytest.approx(0.8796 * std, rel=0.05)
            assert module.bias is None or not module.bias.any()
    assert not special
