"""ResNets against the paper's figures, torchvision with copied weights, and a foreign checkpoint's known answers."""

import json
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from convatlas import weights
from convatlas.networks import NETWORKS, build
from convatlas.networks.resnet import ZeroPad

# Parameters: torchvision's metadata for 18 to 152 and the 1x1 projections of options B and C added up by hand; the
# CIFAR-10 networks' from osmr/imgclsmob's table (option B, 20, 56, 110, 1202) and, for option A, 2,752 less.
PARAMETERS = {
    "resnet18": 11_689_512,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnet50_v15": 25_557_032,
    "resnet101_v15": 44_549_160,
    "resnet152_v15": 60_192_808,
    "resnet18_a": 11_515_688,
    "resnet18_c": 12_043_816,
    "resnet34_a": 21_623_848,
    "resnet34_c": 22_716_840,
    "plain18": 11_515_688,
    "plain34": 21_623_848,
    "resnet20_cifar": 269_722,
    "resnet32_cifar": 464_154,
    "resnet44_cifar": 658_586,
    "resnet56_cifar": 853_018,
    "resnet110_cifar": 1_727_962,
    "resnet1202_cifar": 19_421_274,
    "resnet20_cifar_b": 272_474,
    "resnet56_cifar_b": 855_770,
    "resnet110_cifar_b": 1_730_714,
    "resnet1202_cifar_b": 19_424_026,
    "plain20_cifar": 269_722,
    "plain32_cifar": 464_154,
    "plain44_cifar": 658_586,
    "plain56_cifar": 853_018,
    "plain110_cifar": 1_727_962,
}


@cache
def on_meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return build(name)


def test_parameters() -> None:
    assert {name: sum(p.numel() for p in on_meta(name).parameters()) for name in PARAMETERS} == PARAMETERS


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_the_name_tells_the_depth(name: str) -> None:
    """Weighted layers as the papers count them: convolutions of the trunk and the linear layer, no projections."""
    modules = on_meta(name).named_modules()
    layers = [n for n, m in modules if isinstance(m, nn.Conv2d | nn.Linear) and "shortcut" not in n]
    assert len(layers) == int("".join(c for c in name.split("_")[0] if c.isdigit()))


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_logits_equal_torchvisions_with_its_weights(depth: int) -> None:
    import torchvision

    name = f"resnet{depth}" if depth < 50 else f"resnet{depth}_v15"
    with torch.device("meta"):  # its own initialisation would take most of the time
        theirs = torchvision.models.get_model(f"resnet{depth}", weights=None).eval()
    disturb(theirs.to_empty(device="cpu"))
    ours = on_meta(name).eval().to_empty(device="cpu")
    on_meta.cache_clear()
    weights.fill_by_order(ours, theirs.state_dict(), f"torchvision's resnet{depth}")
    x = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        logits = theirs(x)
        torch.testing.assert_close(ours(x), logits, rtol=0, atol=0)
    assert 0.01 < logits.std() < 10_000  # neither vanished nor burst, so that the comparison means something


def disturb(net: nn.Module) -> None:
    """Gives every entry values of its own, normalisation's running statistics too, so that a swap of two would show."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in net.state_dict().items():
        if tensor.dim() > 1:
            bound = (1 / tensor[0].numel()) ** 0.5
            tensor.uniform_(-bound, bound, generator=generator)
        elif name.endswith("running_var") or (name.endswith("weight") and "fc" not in name):
            tensor.uniform_(0.5, 1.5, generator=generator)
        else:
            tensor.uniform_(-0.2, 0.2, generator=generator) if tensor.is_floating_point() else tensor.zero_()


def test_logits_of_a_foreign_checkpoint(shared_data: Path) -> None:
    """akamaster/pytorch_resnet_cifar10's ResNet-20, with logits from an independent forward pass in float64."""
    folder = shared_data / "checkpoints"
    net = build("resnet20_cifar").eval()
    weights.fill_by_order(net, weights.read_foreign(folder / "resnet20-12fca82f.th"), "the checkpoint")
    n = torch.arange(2 * 3 * 32 * 32, dtype=torch.float64)
    images = torch.sin(n * n * 0.001).reshape(2, 3, 32, 32)
    expected = torch.tensor(json.loads((folder / "resnet20_oracle.json").read_text())["logits"], dtype=torch.float64)
    with torch.inference_mode():
        torch.testing.assert_close(net(images.float()).double(), expected, rtol=0, atol=1e-4)
        torch.testing.assert_close(net.double()(images), expected, rtol=0, atol=1e-10)


def test_option_a_takes_every_second_pixel_and_pads_both_sides() -> None:
    x = torch.arange(2 * 5 * 5, dtype=torch.float32).reshape(1, 2, 5, 5) + 1
    y = ZeroPad(2, 6, 2)(x)
    assert y.shape == (1, 6, 3, 3)
    assert not y[:, :2].any()
    assert not y[:, 4:].any()
    for c in range(2):
        assert y[0, 2 + c].tolist() == [[x[0, c, 2 * i, 2 * j].item() for j in range(3)] for i in range(3)]


def strides(name: str) -> dict[str, int]:
    net = build(name, classes=2)
    return {n.split(".")[-2]: m.stride[0] for n, m in net.conv3[0].named_modules() if isinstance(m, nn.Conv2d)}


def test_where_a_bottleneck_strides() -> None:
    """The paper's first 1x1 has the stride (as in the authors' released files); torchvision's 3x3 has it."""
    assert strides("resnet50") == {"conv1": 2, "conv2": 1, "conv3": 1, "shortcut": 2}
    assert strides("resnet50_v15") == {"conv1": 1, "conv2": 2, "conv3": 1, "shortcut": 2}


@pytest.mark.parametrize(
    ("name", "projections"),
    [("resnet18", 3), ("resnet18_a", 0), ("resnet18_c", 8), ("plain18", 0), ("resnet50", 4), ("resnet56_cifar_b", 2)],
)
def test_projections_of_each_option(name: str, projections: int) -> None:
    net = build(name, classes=2)
    assert sum(isinstance(m, nn.Conv2d) for n, m in net.named_modules() if "shortcut" in n) == projections


def test_a_block_that_learnt_nothing_is_the_identity() -> None:
    """Section 3.1: with F = 0 a block gives its input, which is not negative after the ReLU before it."""
    block = build("resnet18", classes=2).eval().conv2[1]
    nn.init.zeros_(block.body.conv2.bn.weight)
    x = torch.rand(1, 64, 8, 8)
    with torch.inference_mode():
        assert torch.equal(block(x), x)


def test_every_map_halves_once_a_stage() -> None:
    x = torch.zeros(1, 3, 224, 224)
    sizes = {}
    with torch.inference_mode():
        for name, layer in build("resnet18").eval().named_children():
            x = layer(x)
            sizes[name] = tuple(x.shape[1:])
    # Table 1, column "output size", with the widths of its 18-layer column
    assert [sizes[n] for n in ("conv1", "conv2", "conv3", "conv4", "conv5")] == [
        (64, 112, 112),
        (64, 56, 56),
        (128, 28, 28),
        (256, 14, 14),
        (512, 7, 7),
    ]


def test_every_name_is_checked_here() -> None:
    assert {n for n in NETWORKS if not n.startswith("lenet")} == set(PARAMETERS)
