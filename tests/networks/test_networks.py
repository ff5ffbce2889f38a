"""Every network by name: it builds at any size and class count, learns, repeats by seed, and refuses in one line."""

import inspect
from pathlib import Path

import pytest
import torch
from torch import nn

from convatlas import networks
from convatlas.errors import BadInput, UnknownName
from convatlas.networks import NETWORKS, PAPER_OF, PAPERS, PUBLISHED, RECIPES, build, lenet, recipe_for, resnet

# These differ from others in nothing but the number of blocks or their shortcuts. The two of 1202 layers are built
# on the meta device only.
DEEP = (
    *("resnet101", "resnet152", "resnet101_v15", "resnet152_v15", "resnet34_a", "resnet34_c", "plain34"),
    *("resnet44_cifar", "resnet56_cifar", "resnet110_cifar", "resnet56_cifar_b", "resnet110_cifar_b"),
    *("plain44_cifar", "plain56_cifar", "plain110_cifar"),
)
DEEPEST = ("resnet1202_cifar", "resnet1202_cifar_b")


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n in DEEP)) for n in sorted(NETWORKS) if n not in DEEPEST],
)
def test_every_network_goes_forward_and_back_at_a_small_size(name: str) -> None:
    net = build(name, classes=7)
    logits = net(torch.randn(2, NETWORKS[name].input[0], 32, 32))
    assert logits.shape == (2, 7)
    nn.functional.cross_entropy(logits, torch.tensor([1, 6])).backward()
    still = [n for n, p in net.named_parameters() if p.grad is None or not p.grad.isfinite().all() or not p.grad.any()]
    assert still == []


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - set(DEEPEST)))
def test_every_network_answers_at_its_own_size_on_the_meta_device(name: str) -> None:
    with torch.device("meta"):
        net = build(name)
        assert net(torch.empty(3, *NETWORKS[name].input)).shape == (3, NETWORKS[name].classes)
    assert {p.device.type for p in (*net.parameters(), *net.buffers())} == {"meta"}


@pytest.mark.parametrize("name", ["lenet5", "lenet5_relu", "resnet18_c", "resnet20_cifar"])
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 28, 28), (3, 45, 40), (2, 64, 30)])
def test_other_channels_and_sizes(name: str, channels: int, height: int, width: int) -> None:
    net = build(name, classes=5, channels=channels, input=(height, width))
    assert net(torch.randn(2, channels, height, width)).shape == (2, 5)


def smallest_that_works(name: str) -> int:
    """The first size from 1 up at which the bare builder's network gives an answer."""
    network = NETWORKS[name]
    for side in range(1, 64):
        try:
            network.build(classes=2, channels=1, input=(side, side)).eval()(torch.zeros(1, 1, side, side))
        except (RuntimeError, ValueError, ZeroDivisionError):
            continue
        return side
    raise AssertionError(name)


@pytest.mark.parametrize("name", ["lenet5", "lenet5_relu", "resnet18", "resnet50", "plain18", "resnet20_cifar"])
@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
def test_the_smallest_size_is_where_no_map_vanishes(name: str) -> None:
    assert NETWORKS[name].smallest == smallest_that_works(name)


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
        (lambda: build("squeeze"), UnknownName, "no network named 'squeeze'; `convatlas list` shows all"),
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
        (lambda: build("lenet5", channels=-1), BadInput, "lenet5 cannot have -1 channels; give 1 or more"),
        (lambda: recipe_for("resnet18", "resnte"), UnknownName, "no recipe named 'resnte'; did you mean resnet?"),
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
    assert {n.recipe for n in NETWORKS.values()} <= set(RECIPES)


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
    files = {"lenet": lenet, "resnet": resnet}
    assert set(files) == set(PAPERS) == set(PAPER_OF.values())
    assert len(NETWORKS) == len(PAPER_OF) == sum(len(f.NETWORKS) for f in files.values())
    assert len(RECIPES) == sum(len(f.RECIPES) for f in files.values())
    assert all(p.network in NETWORKS for p in PUBLISHED)
    folder = Path(networks.__file__).parent
    assert {p.stem for p in folder.glob("*.py")} - {"__init__"} == set(PAPERS)


@pytest.mark.parametrize("key", sorted(PAPERS))
def test_each_file_writes_out_its_names_and_cites_its_paper(key: str) -> None:
    module = getattr(networks, key)
    source = inspect.getsource(module)
    paper = PAPERS[key]
    assert module.__doc__.startswith(f"{paper.title} (")
    assert f"{paper.year})." in module.__doc__.splitlines()[0]
    assert paper.link.startswith("https://")
    assert [n for n in module.NETWORKS if f'"{n}": ' not in source] == []  # so that a search for a name finds it
    variants = [n for n, network in module.NETWORKS.items() if network.about]
    assert all(module.NETWORKS[n].about.endswith(".") for n in variants)
