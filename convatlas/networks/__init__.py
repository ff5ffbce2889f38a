"""The networks by name: each paper's file holds its own dictionaries, which are merged here."""

import torch
from torch import nn

from ..errors import BadInput, UnknownName
from ..paper import Network, Paper, Published, Recipe
from . import lenet, resnet

PAPERS: dict[str, Paper] = {"lenet": lenet.PAPER, "resnet": resnet.PAPER}
NETWORKS: dict[str, Network] = {**lenet.NETWORKS, **resnet.NETWORKS}
RECIPES: dict[str, Recipe] = {**lenet.RECIPES, **resnet.RECIPES}
PUBLISHED: list[Published] = [*lenet.PUBLISHED, *resnet.PUBLISHED]
PAPER_OF: dict[str, str] = {
    **dict.fromkeys(lenet.NETWORKS, "lenet"),
    **dict.fromkeys(resnet.NETWORKS, "resnet"),
}


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
    for what, number in (("classes", classes), ("channels", channels)):
        if number < 1:
            raise BadInput(f"{name} cannot have {number} {what}; give 1 or more")
    if min(height, width) < network.smallest:
        s = network.smallest
        raise BadInput(f"{name} cannot take images of {height}x{width}; the smallest that works is {s}x{s}")
    device = torch.get_default_device()
    # Only the CPU's generator is seeded, so that the weights do not depend on the device.
    with torch.random.fork_rng(devices=[]), torch.device("meta" if device.type == "meta" else "cpu"):
        torch.default_generator.manual_seed(seed)
        net: nn.Module = network.build(classes=classes, channels=channels, input=(height, width))
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
