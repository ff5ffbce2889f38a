"""The networks by name: each paper's file holds its own dictionaries, which are merged here."""

from types import ModuleType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from ..errors import BadInput, UnknownName
from ..paper import Network, Paper, Published, Recipe
from . import (
    alexnet,
    canziani,
    densenet,
    enet,
    fractalnet,
    googlenet,
    inception_v3,
    inception_v4,
    lecture,
    lenet,
    nin,
    preresnet,
    resnet,
    resnext,
    squeezenet,
    stochastic_depth,
    vgg,
    wrn,
    zfnet,
)

FILES: dict[str, ModuleType] = {
    "lenet": lenet,
    "alexnet": alexnet,
    "zfnet": zfnet,
    "nin": nin,
    "vgg": vgg,
    "googlenet": googlenet,
    "inception_v3": inception_v3,
    "inception_v4": inception_v4,
    "resnet": resnet,
    "preresnet": preresnet,
    "wrn": wrn,
    "resnext": resnext,
    "stochastic_depth": stochastic_depth,
    "densenet": densenet,
    "fractalnet": fractalnet,
    "squeezenet": squeezenet,
    "enet": enet,
    "canziani": canziani,
    "lecture": lecture,
}
PAPERS: dict[str, Paper] = {key: file.PAPER for key, file in FILES.items()}
NETWORKS: dict[str, Network] = {name: network for file in FILES.values() for name, network in file.NETWORKS.items()}
RECIPES: dict[str, Recipe] = {name: recipe for file in FILES.values() for name, recipe in file.RECIPES.items()}
PUBLISHED: dict[str, tuple[Published, ...]] = {key: tuple(file.PUBLISHED) for key, file in FILES.items()}
PAPER_OF: dict[str, str] = {name: key for key, file in FILES.items() for name in file.NETWORKS}

DRAWING = {getattr(nn.init, f"{name}_") for name in ("uniform", "normal", "kaiming_uniform", "kaiming_normal")}


class _Undrawn(TorchFunctionMode):
    """PyTorch's layers draw weights when they are made, only to be drawn anew as the paper did: that is left out."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in DRAWING:
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def build(
    name: str,
    *,
    classes: int | None = None,
    channels: int | None = None,
    input: tuple[int, int] | None = None,
    seed: int = 0,
) -> nn.Module:
    """The network of that name with its paper's initialisation: (N,channels,H,W) -> logits (N,classes).

    What is None is as in the paper; `input` is (height, width). Equal seeds give equal weights on every device, and the
    global random state stays as it was. Inside `with torch.device("meta")` no memory is taken and nothing is drawn.
    Raises UnknownName, and BadInput for a size below the smallest that the network can take.
    """
    network = _network(name)
    own_channels, *own_size = network.input
    classes = network.classes if classes is None else classes
    channels = own_channels if channels is None else channels
    height, width = input or own_size
    if not network.classes and classes:
        raise BadInput(f"{name} is a module and gives feature maps, not classes; leave classes out")
    for what, number in (("classes", classes or int(not network.classes)), ("channels", channels)):
        if number < 1:
            raise BadInput(f"{name} cannot have {number} {what}; give 1 or more")
    if min(height, width) < network.smallest:
        s = network.smallest
        raise BadInput(f"{name} cannot take images of {height}x{width}; the smallest that works is {s}x{s}")
    device = torch.get_default_device()
    meta = device.type == "meta"
    # Only the CPU's generator is seeded, so that the weights do not depend on the device.
    with torch.random.fork_rng(devices=[]), torch.device("meta" if meta else "cpu"):
        torch.default_generator.manual_seed(seed)
        with _Undrawn():
            net: nn.Module = network.build(classes=classes, channels=channels, input=(height, width))
        if not meta:
            network.initialise(net)
    return net.to(device)


def recipe_for(network: str, name: str | None = None) -> Recipe:
    """The recipe of that name, or the one that the network's paper used. Raises UnknownName."""
    name = _network(network).recipe if name is None else name
    if name not in RECIPES:
        raise UnknownName("recipe", name, RECIPES)
    return RECIPES[name]


def _network(name: str) -> Network:
    if name not in NETWORKS:
        raise UnknownName("network", name, NETWORKS, "`convatlas list` shows all")
    return NETWORKS[name]
