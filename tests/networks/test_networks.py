"""Every network by name: it builds at any size and class count, learns, repeats by seed, and refuses in one line."""

import inspect
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from convatlas import networks
from convatlas.catalogue import catalogue
from convatlas.errors import BadInput, UnknownName
from convatlas.layers import Heads
from convatlas.networks import FILES, NETWORKS, PAPER_OF, PAPERS, PUBLISHED, RECIPES, build, recipe_for

CLASSIFIERS = sorted(n for n, network in NETWORKS.items() if network.classes)
ENTRIES = catalogue().networks
# They differ from the one of 110 layers in nothing but the number of blocks, and even building them takes a second.
DEEPEST = ("resnet1202_cifar", "resnet1202_cifar_b", "preresnet1001_cifar")
# A step of these takes seconds.
HEAVY = [n for n in NETWORKS if ENTRIES[n].params > 30e6 or ENTRIES[n].depth > 60 or ENTRIES[n].macs > 6e9]


def marked(names: list[str]) -> list[Any]:
    return [pytest.param(n, marks=[pytest.mark.slow] * (n in HEAVY)) for n in names]


class Poisoned(TorchFunctionMode):
    """What layers would draw when they are made becomes NaN, so that a weight that the paper's rule forgets shows."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in networks.DRAWING:
            return (args[0] if args else kwargs["tensor"]).data.fill_(torch.nan)
        return func(*args, **(kwargs or {}))


def loss_of(output: Tensor | Heads, labels: Tensor) -> Tensor:
    cross_entropy = nn.functional.cross_entropy
    if isinstance(output, Heads):
        parts = [cross_entropy(logits, labels) for logits in output.auxiliary]
        return cross_entropy(output.logits, labels) + output.weight * sum(parts)
    return cross_entropy(output, labels)


@pytest.mark.parametrize("name", marked(CLASSIFIERS))
def test_a_training_step_reaches_every_weight_and_one_image_is_answered_as_in_a_batch(
    name: str, steady: Callable[[nn.Module], nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "_Undrawn", Poisoned)
    side = max(NETWORKS[name].smallest, 32)
    net = build(name, classes=7, input=(side, side))
    assert [n for n, p in net.named_parameters() if not p.isfinite().all()] == []
    steady(net)
    images = torch.randn(4, NETWORKS[name].input[0], side, side, generator=torch.Generator().manual_seed(0))
    loss = loss_of(net(images), torch.tensor([1, 6, 0, 3]))
    loss.backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)  # those of a plain network of 110 layers are enormous
    with torch.no_grad():
        for parameter in net.parameters():
            parameter -= 1e-3 * parameter.grad
    net.eval()
    with torch.inference_mode():
        together, alone = net(images), torch.cat([net(image[None]) for image in images])
    assert together.shape == (4, 7)
    assert together.isfinite().all()
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5 * max(1, together.abs().max().item()))


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_every_network_answers_at_its_own_size_on_the_meta_device(name: str) -> None:
    network = NETWORKS[name]
    with torch.device("meta"):
        net = build(name).eval()
        output = net(torch.empty(3, *network.input))
    assert output.shape == (3, network.classes) if network.classes else output.dim() == 4
    assert {p.device.type for p in (*net.parameters(), *net.buffers())} == {"meta"}


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in DEEPEST)) for n in CLASSIFIERS])
def test_other_classes_channels_and_sizes(name: str) -> None:
    for side in ((64, 64), (96, 80)):
        height, width = (max(s, NETWORKS[name].smallest) for s in side)
        with torch.device("meta"):
            net = build(name, classes=10, channels=1, input=(height, width))
            output = net(torch.empty(2, 1, height, width))
            logits = [output.logits, *output.auxiliary] if isinstance(output, Heads) else [output]
        assert [tuple(one.shape) for one in logits] == [(2, 10)] * len(logits)


@pytest.mark.parametrize("name", ["lenet5", "lenet5_relu", "resnet18_c", "resnet20_cifar"])
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 28, 28), (3, 45, 40), (2, 64, 30)])
def test_other_channels_and_sizes_with_values(name: str, channels: int, height: int, width: int) -> None:
    net = build(name, classes=5, channels=channels, input=(height, width))
    assert net(torch.randn(2, channels, height, width)).shape == (2, 5)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in DEEPEST)) for n in sorted(NETWORKS)])
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_the_smallest_size_is_where_no_map_vanishes(name: str) -> None:
    smallest = NETWORKS[name].smallest
    assert works(name, smallest)
    assert smallest == 1 or not works(name, smallest - 1)


def works(name: str, side: int) -> bool:
    """Whether the bare builder's network gives an answer in training at that size."""
    network = NETWORKS[name]
    channels = 1 if network.classes else network.input[0]
    try:
        with torch.device("meta"):
            net = network.build(classes=2, channels=channels, input=(side, side))
            net(torch.empty(2, channels, side, side))
    except (RuntimeError, ValueError, ZeroDivisionError):
        return False
    return True


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_building_without_memory_takes_no_time(name: str) -> None:
    def seconds() -> float:
        begin = time.perf_counter()
        with torch.device("meta"):
            build(name)
        return time.perf_counter() - begin

    assert min(seconds() for _ in range(3)) < (1.0 if ENTRIES[name].depth > 1000 else 0.1)


def test_layers_do_not_draw_what_the_papers_rule_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = []

    def counting(tensor: Tensor, *_: Any, **__: Any) -> Tensor:
        drawn.append(tensor.numel())
        return tensor

    monkeypatch.setattr(torch.Tensor, "normal_", counting)
    monkeypatch.setattr(torch.Tensor, "uniform_", counting)
    build("resnet18")
    assert sum(drawn) == 11_689_512 - 1000 - 2 * 4_800  # all but the linear layer's biases and the normalisations


def test_equal_seeds_give_equal_weights_and_the_global_state_stays() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first, again, other = (build("resnet20_cifar", seed=s).state_dict() for s in (3, 3, 4))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(first[n], again[n]) for n in first)
    assert not torch.equal(first["conv1.conv.weight"], other["conv1.conv.weight"])


def test_refusals_say_what_was_given_and_what_to_do() -> None:
    for call, kind, text in [
        (
            lambda: build("resnet5"),
            UnknownName,
            "no network named 'resnet5'; did you mean resnet50, resnet152, resnet34?",
        ),
        (lambda: build("vit_b"), UnknownName, "no network named 'vit_b'; `convatlas list` shows all"),
        (
            lambda: build("lenet5", input=(15, 40)),
            BadInput,
            "lenet5 cannot take images of 15x40; the smallest that works is 16x16",
        ),
        (
            lambda: build("resnet18", input=(0, 7)),
            BadInput,
            "resnet18 cannot take images of 0x7; the smallest that works is 1x1",
        ),
        (lambda: build("lenet5", classes=0), BadInput, "lenet5 cannot have 0 classes; give 1 or more"),
        (
            lambda: build("inception_naive", classes=10),
            BadInput,
            "inception_naive is a module and gives feature maps, not classes; leave classes out",
        ),
        (lambda: build("lenet5", channels=-1), BadInput, "lenet5 cannot have -1 channels; give 1 or more"),
        (
            lambda: recipe_for("resnet18", "resnte"),
            UnknownName,
            "no recipe named 'resnte'; did you mean resnet, resnext, preresnet?",
        ),
        (
            lambda: recipe_for("resnet17"),
            UnknownName,
            "no network named 'resnet17'; did you mean resnet18, resnet152, resnet101?",
        ),
    ]:
        with pytest.raises(kind) as refusal:
            call()
        assert str(refusal.value) == text


def test_recipes_of_networks() -> None:
    assert recipe_for("lenet5_relu") is RECIPES["lenet"]
    assert recipe_for("resnet101") is RECIPES["resnet"]
    assert recipe_for("plain56_cifar") is RECIPES["resnet_cifar"]
    assert recipe_for("resnet18", "small") is RECIPES["small"]
    assert {n.recipe for n in NETWORKS.values() if n.classes} <= set(RECIPES)
    assert {n.recipe for n in NETWORKS.values() if not n.classes} == {""}


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_recipes_are_whole(name: str) -> None:
    recipe = RECIPES[name]
    assert recipe.where
    assert recipe.dataset
    assert (recipe.epochs is None) != (recipe.iterations is None)
    assert set(recipe.assumed) <= set(recipe.__dataclass_fields__)
    assert bool(recipe.drops) == (recipe.schedule == "steps")
    assert all(0 < drop < (recipe.epochs or recipe.iterations) for drop in recipe.drops)


def test_the_papers_files_agree_with_the_merged_dictionaries() -> None:
    assert set(PAPER_OF.values()) == set(PAPERS) - {"lecture", "canziani"}
    assert len(NETWORKS) == sum(len(f.NETWORKS) for f in FILES.values())
    assert len(RECIPES) == sum(len(f.RECIPES) for f in FILES.values())
    named = {n for printed in PUBLISHED.values() for p in printed for n in (p.network, p.versus)}
    assert named - {""} <= set(NETWORKS)
    folder = Path(networks.__file__).parent
    assert {p.stem for p in folder.glob("*.py")} - {"__init__"} == set(PAPERS)


@pytest.mark.parametrize("key", sorted(PAPERS))
def test_each_file_writes_out_its_names_and_cites_its_paper(key: str) -> None:
    module = FILES[key]
    source = inspect.getsource(module)
    paper = PAPERS[key]
    assert module.__doc__.startswith(f"{paper.title} (")
    assert f"{paper.year})." in module.__doc__.splitlines()[0]
    assert paper.link.startswith("https://")
    assert [n for n in module.NETWORKS if f'"{n}": ' not in source] == []  # so that a search for a name finds it
    assert all(network.about.endswith(".") for network in module.NETWORKS.values() if network.about)
