"""Which parameters learn, and how fast: against steps written out by hand, and the networks' own names."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from convatlas.errors import BadRecipe, UnknownName
from convatlas.layers import chain
from convatlas.networks import build
from convatlas.paper import Recipe
from convatlas.train.updating.groups import chosen, freeze, frozen_norms, hold, layer_rates, parameter_groups


def below(net: nn.Module, *tops: str) -> list[str]:
    return [name for name, _ in net.named_parameters() if name.partition(".")[0] in tops]


def small() -> nn.Sequential:
    """Two convolutions with batch norm, then group norm and a linear layer; drawn anew, equal each time."""
    torch.manual_seed(3)
    return chain(
        conv1=chain(conv=nn.Conv2d(3, 4, 3, bias=False), bn=nn.BatchNorm2d(4), relu=nn.ReLU()),
        conv2=chain(conv=nn.Conv2d(4, 4, 3), bn=nn.BatchNorm2d(4), norm=nn.GroupNorm(2, 4)),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(4, 3),
    )


# ---- Selections ------------------------------------------------------------------------------------------------------


def test_a_name_takes_in_all_below_it() -> None:
    net = build("resnet18")
    assert chosen(net, ["conv3"]) == below(net, "conv3")
    assert chosen(net, ["conv3.2"]) == [n for n in below(net, "conv3") if n.startswith("conv3.2.")]
    assert chosen(net, ["fc.bias"]) == ["fc.bias"]
    assert chosen(net, ["fc", "fc.bias", "conv1"]) == below(net, "conv1", "fc")
    assert chosen(net, []) == []


def test_a_range_goes_from_one_module_to_another_in_the_networks_order() -> None:
    net = build("alexnet_one_tower")
    convolutions = ("conv1", "conv2", "conv3", "conv4", "conv5")
    assert chosen(net, ["conv1..conv4"]) == below(net, *convolutions[:4])
    assert chosen(net, ["norm1..pool5"]) == below(net, *convolutions[1:])
    assert chosen(net, ["fc8..fc8"]) == ["fc8.weight", "fc8.bias"]
    resnet = build("resnet34")
    inner = [n for n in below(resnet, "conv3") if n.split(".")[1] in ("2", "3")]
    assert chosen(resnet, ["conv3.2..conv3.3"]) == inner
    mixed = below(resnet, "conv1", "conv2") + [n for n in below(resnet, "conv3") if n.split(".")[1] == "1"]
    assert chosen(resnet, ["conv1..conv3.1"]) == mixed


def test_a_range_passes_over_auxiliary_heads_that_are_not_its_ends() -> None:
    net = build("googlenet")
    taken = {n.partition(".")[0] for n in chosen(net, ["inception_4a..inception_4e"])}
    assert taken == {f"inception_4{part}" for part in "abcde"}
    assert {n.partition(".")[0] for n in chosen(net, ["aux1..inception_4b"])} == {"aux1", "inception_4b"}
    assert chosen(net, ["aux*"]) == below(net, "aux1", "aux2")


def test_a_star_stands_for_any_text() -> None:
    net = build("resnet18")
    assert chosen(net, ["conv*"]) == [n for n, _ in net.named_parameters() if not n.startswith("fc")]
    assert chosen(net, ["*.bn"]) == [n for n, _ in net.named_parameters() if ".bn." in n]
    assert chosen(net, ["*"]) == [n for n, _ in net.named_parameters()]
    assert chosen(net, ["*bias"]) == [n for n, _ in net.named_parameters() if n.endswith("bias")]


def test_a_weight_under_two_names_is_one() -> None:
    net = chain(a=nn.Linear(3, 3, bias=False), b=nn.Linear(3, 3, bias=False), c=nn.Linear(3, 3))
    net.b.weight = net.a.weight
    assert chosen(net, ["b"]) == ["a.weight"]


@pytest.mark.parametrize(
    ("selection", "kind", "message"),
    [
        ("conv6", UnknownName, "no layer named 'conv6'; did you mean conv5, conv4, conv3?"),
        (
            "layer",
            UnknownName,
            "no layer named 'layer'; the network's are conv1, relu1, pool1, conv2, conv3, conv4, conv5, pool5, "
            "flatten, fc",
        ),
        (
            "conv",
            UnknownName,
            "no layer named 'conv'; did you mean conv5, conv4, conv3?",
        ),
        ("conv1..convolution9", UnknownName, "no layer named 'convolution9'; the network's are conv1, relu1, pool1, "),
        ("conv2.1.bdy", UnknownName, "no layer named 'conv2.1.bdy'; did you mean conv2.1.body"),
        ("x*", UnknownName, "no layer named 'x*'; the network's are conv1"),
        ("conv1..", BadRecipe, "range 'conv1..' lacks an end; write FIRST..LAST, for example conv1..conv4"),
        (
            "conv4..conv2",
            BadRecipe,
            "range conv4..conv2 runs backwards, conv2 comes before conv4; write conv2..conv4",
        ),
        (
            "pool1",
            BadRecipe,
            "layer pool1 has no parameters; those with some are conv1, conv2, conv3, conv4, conv5, fc",
        ),
    ],
)
def test_what_is_no_layer_is_said_in_a_line(selection: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as error:
        chosen(build("resnet18"), [selection])
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)


# ---- Groups ----------------------------------------------------------------------------------------------------------


def test_layer_rates_are_read() -> None:
    net = build("resnet18")
    rates = layer_rates(net, ["conv1..conv3=0.1", "fc = 10"])
    assert rates == dict.fromkeys(below(net, "conv1", "conv2", "conv3"), 0.1) | dict.fromkeys(below(net, "fc"), 10.0)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["conv1"], "layer_lr 'conv1' has no number; write LAYERS=TIMES, for example conv1..conv4=0.1"),
        *(
            (
                [f"conv1={bad}"],
                f"layer_lr 'conv1={bad}' has no number above 0; write LAYERS=TIMES, for example conv1..conv4=0.1 "
                "(freeze keeps layers from learning)",
            )
            for bad in ("", "fast", "nan", "inf", "0", "-1")
        ),
        (
            ["conv1=0.1", "conv1..conv2=0.5"],
            "layer_lr gives conv1.conv.weight two rates, conv1=0.1 and conv1..conv2=0.5; name a layer once",
        ),
    ],
)
def test_bad_layer_rates_are_refused(texts: list[str], message: str) -> None:
    with pytest.raises(BadRecipe) as error:
        layer_rates(build("resnet18"), texts)
    assert str(error.value) == message


@pytest.mark.parametrize("freezing", [("*",), ("conv1..fc",), ("conv*", "fc")])
def test_something_must_be_left_to_learn(freezing: tuple[str, ...]) -> None:
    with pytest.raises(BadRecipe) as error:
        parameter_groups(build("resnet18"), Recipe(freeze=freezing))
    assert str(error.value) == f"freeze={','.join(freezing)} takes every layer; leave at least the last one to learn"


def test_as_few_groups_as_needed_in_the_networks_order() -> None:
    net = small()
    names = [n for n, _ in net.named_parameters()]
    (only,) = parameter_groups(net, Recipe(weight_decay=0.1))
    assert only["names"] == names and (only["lr_scale"], only["weight_decay"]) == (1.0, 0.1)
    assert [id(p) for p in only["params"]] == [id(p) for p in net.parameters()]
    weights, others = parameter_groups(net, Recipe(weight_decay=0.1, decayed="weights"))
    assert weights["names"] == ["conv1.conv.weight", "conv2.conv.weight", "fc.weight"]
    assert (weights["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert sorted(weights["names"] + others["names"]) == sorted(names)
    # Without a decay there is nothing to tell apart.
    assert len(parameter_groups(net, Recipe(weight_decay=0.0, decayed="weights"))) == 1
    everything = Recipe(weight_decay=0.1, decayed="weights", bias_lr=2, layer_lr=("conv1=0.5",), freeze=("conv2.conv",))
    assert [(g["lr_scale"], g["weight_decay"], g["names"]) for g in parameter_groups(net, everything)] == [
        (0.5, 0.1, ["conv1.conv.weight"]),
        (0.5, 0.0, ["conv1.bn.weight", "conv1.bn.bias"]),
        (1.0, 0.0, ["conv2.bn.weight", "conv2.bn.bias", "conv2.norm.weight", "conv2.norm.bias"]),
        (1.0, 0.1, ["fc.weight"]),
        (2.0, 0.0, ["fc.bias"]),
    ]


FIELDS = [
    {},
    {"weight_decay": 0.05},
    {"weight_decay": 0.05, "decayed": "weights"},
    {"bias_lr": 2.0},
    {"layer_lr": ("conv1=0.1", "fc=3")},
    {"freeze": ("conv1",)},
    {"weight_decay": 0.05, "decayed": "weights", "bias_lr": 2.0, "layer_lr": ("conv2..fc=0.3",), "freeze": ("conv1",)},
]


@pytest.mark.parametrize("fields", FIELDS, ids=lambda f: "+".join(f) or "none")
def test_a_step_is_the_one_written_out_by_hand(fields: dict[str, object]) -> None:
    """w - lr x layer x (2 for a bias) x (gradient + decay x w), each factor by the parameter's own name."""
    net, recipe, rate = small(), replace(Recipe(lr=0.2, momentum=0.0), **fields), 0.2
    freeze(net, recipe)
    groups = parameter_groups(net, recipe)
    optimiser = torch.optim.SGD(groups, rate)
    for group in optimiser.param_groups:
        group["lr"] = rate * group["lr_scale"]
    before = {n: p.detach().clone() for n, p in net.named_parameters()}
    nn.functional.cross_entropy(net(torch.randn(6, 3, 8, 8)), torch.arange(6) % 3).backward()
    optimiser.step()
    layer = {
        "layer_lr" in fields: dict(text.split("=") for text in recipe.layer_lr),
        "conv2..fc=0.3" in recipe.layer_lr: {"conv2": "0.3", "fc": "0.3"},
    }.get(True, {})
    for name, parameter in net.named_parameters():
        top = name.split(".")[0]
        if top in recipe.freeze:
            assert torch.equal(parameter, before[name]) and parameter.grad is None
            continue
        plain = name in ("conv1.conv.weight", "conv2.conv.weight", "fc.weight")
        bias = name in ("conv2.conv.bias", "fc.bias")
        decay = recipe.weight_decay if plain or recipe.decayed == "all" else 0.0
        factor = rate * float(layer.get(top, 1)) * (recipe.bias_lr if bias else 1)
        assert parameter.grad is not None
        wanted = before[name] - factor * (parameter.grad + decay * before[name])
        torch.testing.assert_close(parameter.detach(), wanted, rtol=1e-6, atol=1e-8)
        assert not torch.equal(parameter.detach(), before[name])


# ---- Frozen layers ---------------------------------------------------------------------------------------------------


def test_frozen_weights_and_statistics_keep_their_bits_while_the_rest_learns() -> None:
    net = build("resnet20_cifar", classes=4)
    recipe = Recipe(lr=0.1, weight_decay=1e-3, freeze=("conv1..conv3",))
    freeze(net, recipe)
    optimiser = torch.optim.SGD(parameter_groups(net, recipe), 0.1, momentum=0.9)
    before = {n: t.clone() for n, t in net.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    for _ in range(4):
        net.train()
        hold(net, recipe)
        images = torch.randn(8, 3, 32, 32, generator=generator)
        nn.functional.cross_entropy(net(images), torch.arange(8) % 4).backward()
        optimiser.step()
        optimiser.zero_grad()
    for name, tensor in net.state_dict().items():
        still = name.partition(".")[0] in ("conv1", "conv2", "conv3")
        same = torch.equal(tensor, before[name])
        assert same == still, f"{name} {'changed' if still else 'did not learn'}"


def test_without_hold_the_statistics_of_frozen_layers_run_on() -> None:
    """What `hold` is for: torch's `train()` puts every batch norm back in training mode."""
    net, recipe = small(), Recipe(freeze=("conv1",))
    freeze(net, recipe)
    assert not net.conv1.bn.training and net.conv2.bn.training
    net.train()
    before = net.conv1.bn.running_mean.clone()
    net(torch.randn(4, 3, 8, 8))
    assert not torch.equal(net.conv1.bn.running_mean, before)
    hold(net, recipe)
    assert not net.conv1.bn.training and net.conv2.bn.training and net.training


def test_a_normalisation_is_frozen_with_its_layer_or_with_all_that_it_learns() -> None:
    net = small()
    assert frozen_norms(net, ("conv1",)) == ["conv1.bn"]
    assert frozen_norms(net, ("conv1.bn.weight",)) == []
    assert frozen_norms(net, ("conv1.bn.*",)) == ["conv1.bn"]
    assert frozen_norms(net, ("*.conv",)) == []
    assert frozen_norms(net, ("conv1..conv2",)) == ["conv1.bn", "conv2.bn"]
    bare = chain(stem=chain(conv=nn.Conv2d(3, 4, 3), bn=nn.BatchNorm2d(4, affine=False)), fc=nn.Linear(4, 2))
    assert frozen_norms(bare, ("stem",)) == ["stem.bn"]
    assert frozen_norms(bare, ("stem.conv",)) == []


def test_dropout_of_frozen_layers_goes_on() -> None:
    net = build("alexnet_one_tower", classes=3)
    freeze(net, Recipe(freeze=("conv1..fc7",)))
    assert net.fc7.dropout.training
    learning: list[Tensor] = [p for p in net.parameters() if p.requires_grad]
    assert [tuple(p.shape) for p in learning] == [(3, 4096), (3,)]
