"""Our networks beside another library's of the same layers, with copied weights."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from convatlas.layers import Heads
from convatlas.networks import NETWORKS, build


def _theirs(name: str) -> nn.Module:
    """The other library's network for one of ours, with a value of its own in every entry."""
    foreign = NETWORKS[name].foreign
    assert foreign is not None
    with torch.device("meta"):  # its own initialisation would take most of the time
        if foreign.library == "torchvision":
            import torchvision

            options = {"init_weights": False} if foreign.name in ("googlenet", "inception_v3") else {}
            net = torchvision.models.get_model(foreign.name, weights=None, **options)
        else:
            import timm

            net = timm.create_model(foreign.name, pretrained=False)
    _disturb(net.to_empty(device="cpu"))
    return net


def _disturb(net: nn.Module) -> None:
    """Gives every entry values of its own, normalisation's running statistics too, so that a swap of two would show."""
    generator = torch.Generator().manual_seed(0)
    for name, tensor in net.state_dict().items():
        if tensor.dim() > 1:
            bound = (3 / tensor[0].numel()) ** 0.5
            tensor.uniform_(-bound, bound, generator=generator)
        elif name.endswith(("running_var", "weight")):
            tensor.uniform_(0.5, 1.5, generator=generator)
        else:
            tensor.uniform_(-0.2, 0.2, generator=generator) if tensor.is_floating_point() else tensor.zero_()


def _ours(name: str, other: nn.Module) -> nn.Module:
    """Our network of that name with the other's weights, by the rules of its paper's file: no entry may be left."""
    foreign = NETWORKS[name].foreign
    assert foreign is not None
    state = other.state_dict()
    with torch.device("meta"):
        net = build(name)
    names = {own: foreign.their_name(own) for own in net.state_dict()}
    assert sorted(names.values()) == sorted(state)
    net = net.to_empty(device="cpu")
    net.load_state_dict({own: state[name] for own, name in names.items()})
    return net


def _differences(name: str, size: tuple[int, int], *, train: bool = False) -> list[float]:
    """The largest difference of the logits, in training followed by each auxiliary head's.

    Dropout is off on both sides. The logits must have neither vanished nor burst, or the comparison would mean nothing.
    """
    other = _theirs(name)
    net = _ours(name, other)
    for each in (other, net):
        each.train(train)
        for module in each.modules():
            if isinstance(module, nn.Dropout | nn.Dropout2d):
                module.p = 0.0
    x = torch.randn(2, NETWORKS[name].input[0], *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, found = _outputs(other(x)), _outputs(net(x))
    assert len(expected) == len(found)
    for one in expected:
        assert 1e-3 < one.std() < 1e4, one.std()
    return [(a - b).abs().max().item() for a, b in zip(expected, found, strict=True)]


def _outputs(given: Tensor | tuple[Tensor, ...]) -> list[Tensor]:
    """Logits, then those of auxiliary heads, the one nearest to the input first; torchvision has them reversed."""
    if isinstance(given, Heads):
        return [given.logits, *given.auxiliary]
    if isinstance(given, Tensor):
        return [given]
    return [given[0], *reversed(given[1:])]


@pytest.fixture
def theirs() -> Callable[[str], nn.Module]:
    """theirs(name): the other library's network for one of ours, with a value of its own in every entry."""
    return _theirs


@pytest.fixture
def ours() -> Callable[[str, nn.Module], nn.Module]:
    """ours(name, other): our network with the other's weights, by the rules of its paper's file."""
    return _ours


@pytest.fixture
def differences() -> Callable[..., list[float]]:
    """differences(name, (height, width), train=False): largest difference of logits, then of auxiliary outputs."""
    return _differences
