"""AlexNet on two devices, as its paper trained it (section 3.2 and Figure 2).

Each device has half of the kernels of conv1 to conv5 and half of the neurons of fc6 and fc7. The 1000 neurons of fc8,
which Figure 2 draws once, are on the second device, where the logits come out. The devices talk at the inputs of conv3,
fc6, fc7 and fc8 and nowhere else.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn

from .errors import BadInput
from .networks.alexnet import TWO_TOWERS, TowerNorm, alexnet, features, local_norm

BOTH, SECOND = (0, 1), (1,)
CROSSES = {"conv3": BOTH, "fc6": BOTH, "fc7": BOTH, "fc8": SECOND}  # which towers then get the whole input
WHOLE = ("fc8.weight", "fc8.bias")  # what is not halved, on the second device


class Cross(nn.Module):
    """Both towers' halves of a layer's input -> all of it, once for each tower that computes the layer.

    Every copy from one device to the other is made by `send`; `sent` counts their bytes since the network was made.
    """

    def __init__(self, towers: Sequence[int]):
        super().__init__()
        self.towers = tuple(towers)
        self.sent = 0

    def forward(self, halves: Sequence[Tensor]) -> list[Tensor]:
        whole = []
        for tower in self.towers:
            device = halves[tower].device
            whole.append(torch.cat([h if i == tower else self.send(h, device) for i, h in enumerate(halves)], dim=1))
        return whole

    def send(self, half: Tensor, device: torch.device) -> Tensor:
        self.sent += half.nbytes
        return half.to(device)


class Split(nn.Module):
    """AlexNet's two towers, each on its device. (N,channels,H,W) on any device -> (N,classes) on the second

    Gradients go back over the same ways. Dropout is drawn on each device for its own neurons.
    """

    def __init__(self, net: nn.Sequential, devices: Sequence[torch.device]):
        super().__init__()
        self.devices = tuple(devices)
        self.towers = nn.ModuleList(_tower(net, tower, device) for tower, device in enumerate(devices))
        self.crosses = nn.ModuleDict({layer: Cross(towers) for layer, towers in CROSSES.items()})
        self.train(net.training)

    def forward(self, x: Tensor) -> Tensor:
        halves = [x.to(device) for device in self.devices]
        towers = [dict(tower.named_children()) for tower in self.towers]
        for label in towers[1]:
            if label in CROSSES:
                halves = self.crosses[label](halves)
            layers = [tower[label] for tower in towers if label in tower]
            halves = [layer(half) for layer, half in zip(layers, halves, strict=True)]
        return halves[-1]

    def merge(self) -> dict[str, Tensor]:
        """The weights as one device's `alexnet` names them, on the first device: its load_state_dict takes them."""
        first, second = (tower.state_dict() for tower in self.towers)
        device = self.devices[0]
        return {
            name: half.to(device, copy=True) if name in WHOLE else torch.cat([first[name], half.to(device)])
            for name, half in second.items()
        }

    def traffic(self, batch: int = 1, input: tuple[int, int] = (227, 227)) -> dict[str, int]:
        """Bytes that cross between the devices in one forward pass, by the layer whose input they are, and in total.

        They are counted as they cross, in a pass of one image of that height and width, and multiplied by `batch`; a
        backward pass brings as many back. The images themselves, which each device gets from their source, are not
        among them. Raises BadInput for a size that the network was not built for.
        """
        conv1, fc6 = self.get_submodule("towers.0.conv1.conv"), self.get_submodule("towers.0.fc6.linear")
        assert isinstance(conv1, nn.Conv2d) and isinstance(fc6, nn.Linear)
        if batch < 1 or features(TWO_TOWERS, input) != fc6.in_features:
            raise BadInput(
                f"no pass of {batch} images of {input[0]}x{input[1]}; "
                "give a batch of 1 or more and the height and width that the network was built for"
            )
        before = {layer: cross.sent for layer, cross in self._crosses()}
        with torch.no_grad(), _evaluating(self):
            self(torch.zeros(1, conv1.in_channels, *input, dtype=conv1.weight.dtype))
        crossed = {layer: batch * (cross.sent - before[layer]) for layer, cross in self._crosses()}
        return crossed | {"total": sum(crossed.values())}

    def _crosses(self) -> Iterator[tuple[str, Cross]]:
        for layer, cross in self.crosses.items():
            assert isinstance(cross, Cross)
            yield layer, cross


def split(net: nn.Module, devices: tuple[torch.device | str, torch.device | str]) -> Split:
    """Puts a built `alexnet` onto two devices: same answers, its weights copied.

    Raises BadInput for another network, and for devices that are not two or not there.
    """
    if not isinstance(net, nn.Sequential) or not _is_alexnet(net):
        raise BadInput(f"{type(net).__name__} has not alexnet's layers; give one that build('alexnet') made")
    if isinstance(devices, str) or len(devices) != 2:
        raise BadInput(f"{devices!r} are not two devices; give two, as in ('cuda:0', 'cuda:1')")
    return Split(net, [_device(device) for device in devices])


def _device(given: torch.device | str) -> torch.device:
    try:
        device = torch.device(given)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise BadInput(f"device {str(given)!r} is not on this machine; give one that is, such as 'cpu'") from error
    return device


def _is_alexnet(net: nn.Sequential) -> bool:
    """Whether the layers are alexnet's; channels, classes, the size of the images and dropout's rate may differ."""
    conv1, fc8 = (dict(net.named_modules()).get(label) for label in ("conv1.conv", "fc8"))
    if not isinstance(conv1, nn.Conv2d) or not isinstance(fc8, nn.Linear):
        return False
    with torch.device("meta"):
        own = alexnet(channels=conv1.in_channels, classes=fc8.out_features)
    return _layers(net) == _layers(own)


def _layers(net: nn.Sequential) -> list[tuple[str, type[nn.Module], str]]:
    free = (nn.Sequential, nn.Dropout)
    described = {
        name: f"{m.out_features} {m.bias is None}"
        if isinstance(m, nn.Linear)
        else ""
        if isinstance(m, free)
        else m.extra_repr()
        for name, m in net.named_modules()
    }
    return [(name, type(m), described[name]) for name, m in net.named_modules()]


def _tower(net: nn.Sequential, tower: int, device: torch.device) -> nn.Sequential:
    """Half of each layer, the first or the second; fc8 is whole and in the second only."""
    half = nn.Sequential()
    with torch.device("meta"):
        for label, layer in net.named_children():
            if label != "fc8":
                half.add_module(label, _half(layer))
            elif tower == 1:
                half.add_module(label, _half(layer, neurons=1))
    state = {name: net.state_dict()[name] for name in half.state_dict()}
    own = {name: (whole if name in WHOLE else whole.chunk(2)[tower]) for name, whole in state.items()}
    half.load_state_dict({name: part.to(device, copy=True) for name, part in own.items()}, assign=True)
    for name, parameter in half.named_parameters():
        parameter.requires_grad_(net.get_parameter(name).requires_grad)
    return half


def _half(layer: nn.Module, neurons: int = 2) -> nn.Module:
    """The same layer with half of the kernels or neurons, not yet with their weights."""
    if isinstance(layer, nn.Sequential):
        out = nn.Sequential()
        for name, part in layer.named_children():
            out.add_module(name, _half(part))
        return out
    if isinstance(layer, nn.Conv2d):
        kernel, stride, padding = layer.weight.shape[2:], layer.stride, layer.padding
        return nn.Conv2d(layer.in_channels // layer.groups, layer.out_channels // 2, kernel, stride, padding)  # type: ignore[arg-type]
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, layer.out_features // neurons)
    return local_norm() if isinstance(layer, TowerNorm) else deepcopy(layer)


@contextmanager
def _evaluating(net: nn.Module) -> Iterator[None]:
    """Evaluation mode, and each module's own mode afterwards."""
    modes = [(module, module.training) for module in net.modules()]
    try:
        net.eval()
        yield
    finally:
        for module, mode in modes:
            module.training = mode
