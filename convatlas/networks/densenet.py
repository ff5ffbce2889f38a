"""Densely Connected Convolutional Networks (Huang, Liu, van der Maaten, Weinberger, 2016).

Inside a block every layer sees the maps of all layers before it, one after the other, and adds k maps of its own (the
growth rate). Maps are used again instead of learnt again, so that layers can be very narrow. BC networks have a 1x1
bottleneck of 4k maps in each layer and transitions that halve the maps; plain ones have neither.

Departures and choices:
- Dropout of 0.2 after each convolution belongs only to the paper's trainings without augmentation (section 4.2), and is
  left out.
- A layer joins its input and its k new maps at once, as the authors' code does. The joined maps of every layer are kept
  for the backward pass, so that memory grows with the square of a block's depth; the memory-efficient implementation of
  Pleiss et al. (arXiv:1707.06990) computes them anew instead.
- The 3x3 max pooling is padded by 1, as in the authors' code.
- torchvision's older checkpoint files call a layer's parts norm.1 and conv.1, not norm1 and conv1.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from ..layers import chain, conv_bn, initialise_he
from ..paper import Foreign, Network, Paper, Published, Recipe

PAPER = Paper(
    "Densely Connected Convolutional Networks",
    "Gao Huang, Zhuang Liu, Laurens van der Maaten, Kilian Q. Weinberger",
    2016,
    "https://arxiv.org/abs/1608.06993",
)

# ---- Table 1 --------------------------------------------------------------------------------------------------------

LAYERS = {  # of the four blocks, by depth
    121: (6, 12, 24, 16),
    169: (6, 12, 32, 32),
    201: (6, 12, 48, 32),
    161: (6, 12, 36, 24),
    264: (6, 12, 64, 48),
}
BOTTLENECK = 4  # times k
PLAIN_START = 16  # maps before the first block of a plain network; a BC network has 2k

# ---- Blocks ---------------------------------------------------------------------------------------------------------


class DenseLayer(nn.Sequential):
    """Its input and behind it the k maps that its layers make of it. (N,cin,H,W) -> (N,cin+k,H,W)"""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, super().forward(x)), dim=1)


def dense_layer(cin: int, k: int, bottleneck: bool) -> DenseLayer:
    """BN-ReLU-Conv3x3, in a BC network with BN-ReLU-Conv1x1 before it (section 3)."""
    width = BOTTLENECK * k if bottleneck else cin
    layer = DenseLayer()
    if bottleneck:
        layer.add_module("bn1", nn.BatchNorm2d(cin))
        layer.add_module("relu1", nn.ReLU(inplace=True))
        layer.add_module("conv1", nn.Conv2d(cin, width, 1, bias=False))
    last = 2 if bottleneck else 1
    layer.add_module(f"bn{last}", nn.BatchNorm2d(width))
    layer.add_module(f"relu{last}", nn.ReLU(inplace=True))
    layer.add_module(f"conv{last}", nn.Conv2d(width, k, 3, padding=1, bias=False))
    return layer


def transition(cin: int, cout: int) -> nn.Sequential:
    """BN-ReLU-Conv1x1 and 2x2 average pooling. (N,cin,H,W) -> (N,cout,H/2,W/2)"""
    return chain(
        bn=nn.BatchNorm2d(cin),
        relu=nn.ReLU(inplace=True),
        conv=nn.Conv2d(cin, cout, 1, bias=False),
        pool=nn.AvgPool2d(2),
    )


# ---- The networks ---------------------------------------------------------------------------------------------------


def blocks(cin: int, layers: tuple[int, ...], k: int, bc: bool) -> tuple[dict[str, nn.Module], int]:
    """dense1, transition1, dense2, ... with a block's layers numbered from 1, and the last one's channels."""
    out: dict[str, nn.Module] = {}
    for b, depth in enumerate(layers, 1):
        if b > 1:
            cout = cin // 2 if bc else cin
            out[f"transition{b - 1}"] = transition(cin, cout)
            cin = cout
        out[f"dense{b}"] = chain(**{str(n + 1): dense_layer(cin + n * k, k, bc) for n in range(depth)})
        cin += depth * k
    return out, cin


def classifier(cin: int, classes: int) -> dict[str, nn.Module]:
    return {
        "bn": nn.BatchNorm2d(cin),
        "relu": nn.ReLU(inplace=True),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "fc": nn.Linear(cin, classes),
    }


def densenet(
    depth: int, k: int = 32, *, classes: int = 1000, channels: int = 3, input: tuple[int, int] = (224, 224)
) -> nn.Sequential:
    """An ImageNet network of Table 1, for images of any size from 29x29. (N,channels,H,W) -> (N,classes)"""
    dense, cout = blocks(2 * k, LAYERS[depth], k, bc=True)
    return chain(
        conv1=conv_bn(channels, 2 * k, 7, 2),
        relu1=nn.ReLU(inplace=True),
        pool1=nn.MaxPool2d(3, 2, 1),
        **dense,
        **classifier(cout, classes),
    )


def densenet_cifar(
    depth: int,
    k: int,
    bc: bool = False,
    *,
    classes: int = 10,
    channels: int = 3,
    input: tuple[int, int] = (32, 32),
) -> nn.Sequential:
    """A CIFAR network of three equal blocks, for images of any size from 4x4. (N,channels,H,W) -> (N,classes)

    Besides the blocks' convolutions there are the first, two transitions and the linear layer.
    """
    layers = (depth - 4) // (6 if bc else 3)
    start = 2 * k if bc else PLAIN_START
    dense, cout = blocks(start, (layers,) * 3, k, bc)
    return chain(conv1=nn.Conv2d(channels, start, 3, padding=1, bias=False), **dense, **classifier(cout, classes))


TORCHVISION = (
    (r"^conv1\.conv\.", "features.conv0."),
    (r"^conv1\.bn\.", "features.norm0."),
    (r"^dense(\d)\.(\d+)\.bn(\d)\.", r"features.denseblock\1.denselayer\2.norm\3."),
    (r"^dense(\d)\.(\d+)\.conv(\d)\.", r"features.denseblock\1.denselayer\2.conv\3."),
    (r"^transition(\d)\.bn\.", r"features.transition\1.norm."),
    (r"^transition(\d)\.conv\.", r"features.transition\1.conv."),
    (r"^bn\.", "features.norm5."),
    (r"^fc\.", "classifier."),
)


def _imagenet(build: Callable[..., nn.Module], about: str = "", torchvision: str = "") -> Network:
    foreign = Foreign("torchvision", torchvision, TORCHVISION) if torchvision else None
    return Network(build, initialise_he, (3, 224, 224), 1000, "densenet", about, smallest=29, foreign=foreign)


def _cifar(build: Callable[..., nn.Module], about: str = "") -> Network:
    return Network(build, initialise_he, (3, 32, 32), 10, "densenet_cifar", about, smallest=4)


WIDE = "Growth rate 48 instead of 32."
BC = "With bottlenecks, and transitions that halve the maps."

NETWORKS = {
    "densenet121": _imagenet(partial(densenet, 121), torchvision="densenet121"),
    "densenet169": _imagenet(partial(densenet, 169), torchvision="densenet169"),
    "densenet201": _imagenet(partial(densenet, 201), torchvision="densenet201"),
    "densenet161": _imagenet(partial(densenet, 161, 48), WIDE, "densenet161"),
    "densenet264": _imagenet(partial(densenet, 264)),
    "densenet40_k12_cifar": _cifar(partial(densenet_cifar, 40, 12)),
    "densenet100_k12_cifar": _cifar(partial(densenet_cifar, 100, 12)),
    "densenet100_k24_cifar": _cifar(partial(densenet_cifar, 100, 24)),
    "densenet_bc100_k12_cifar": _cifar(partial(densenet_cifar, 100, 12, True), BC),
    "densenet_bc250_k24_cifar": _cifar(partial(densenet_cifar, 250, 24, True), BC),
    "densenet_bc190_k40_cifar": _cifar(partial(densenet_cifar, 190, 40, True), BC),
}

# ---- How they were trained ------------------------------------------------------------------------------------------

RECIPES = {
    # Augmentation is fb.resnet.torch's.
    "densenet": Recipe(
        where="section 4.2",
        dataset="ImageNet",
        epochs=90,
        batch=256,
        optimiser="nesterov",
        lr=0.1,
        momentum=0.9,
        weight_decay=1e-4,
        schedule="steps",
        drops=(30, 60),
        augment=("area 0.08-1", "colour 0.4", "pca-colour 0.1", "flip"),
    ),
    # The paper holds out 5,000 of 50,000 images and trains the final run on all.
    "densenet_cifar": Recipe(
        where="section 4.2",
        dataset="CIFAR-10",
        epochs=300,
        batch=64,
        optimiser="nesterov",
        lr=0.1,
        momentum=0.9,
        weight_decay=1e-4,
        schedule="steps",
        drops=(150, 225),
        augment=("pad-crop 4", "flip"),
        crop=1.0,
        validation=0.1,
    ),
    # With dropout of 0.2 behind each convolution there, which these networks do not have; 6,000 of 604,388 images are
    # held out.
    "densenet_svhn": Recipe(
        where="section 4.2",
        dataset="SVHN",
        epochs=40,
        batch=64,
        optimiser="nesterov",
        lr=0.1,
        momentum=0.9,
        weight_decay=1e-4,
        schedule="steps",
        drops=(20, 30),
        crop=1.0,
        validation=0.01,
    ),
}

# ---- What was printed -----------------------------------------------------------------------------------------------

ONE = "validation, 1 crop of 224 from 256"
TEN = "validation, 10 crops"
METADATA = "torchvision 0.29, metadata"
OSMR = "osmr/imgclsmob"
ONE_MORE = "two convolutions in each of 6+12+64+48 layers, the first, 3 transitions and the linear layer make 265"
CIFAR_PROTOCOLS = {
    "C10": "CIFAR-10, test, dropout and no augmentation",
    "C10+": "CIFAR-10, test",
    "C100": "CIFAR-100, test, dropout and no augmentation",
    "C100+": "CIFAR-100, test",
}
# By number of layers: top-1 and top-5 with one crop, then with ten
TABLE_3 = {
    121: ("25.02", "7.71", "23.61", "6.66"),
    169: ("23.80", "6.85", "22.08", "5.92"),
    201: ("22.58", "6.34", "21.46", "5.54"),
    264: ("22.15", "6.12", "20.80", "5.29"),
}
# Layers, parameters, then errors on C10+, C10, C100+ and C100
TABLE_2 = {
    "densenet40_k12_cifar": ("40", "1.0e6", "5.24", "7.00", "24.42", "27.55"),
    "densenet100_k12_cifar": ("100", "7.0e6", "4.10", "5.77", "20.20", "23.79"),
    "densenet100_k24_cifar": ("100", "27.2e6", "3.74", "5.83", "19.25", "23.42"),
    "densenet_bc100_k12_cifar": ("100", "0.8e6", "4.51", "5.92", "22.27", "24.15"),
    "densenet_bc250_k24_cifar": ("250", "15.3e6", "3.62", "5.19", "17.60", "19.64"),
    "densenet_bc190_k40_cifar": ("190", "25.6e6", "3.46", "", "17.18", ""),
}
# Parameters, MACs, top-1 and top-5 accuracy
TORCHVISION_METADATA = {
    "densenet121": ("7978856", "2.834e9", "74.434", "91.972"),
    "densenet169": ("14149480", "3.36e9", "75.600", "92.806"),
    "densenet201": ("20013928", "4.291e9", "76.896", "93.370"),
    "densenet161": ("28681000", "7.728e9", "77.138", "93.560"),
}


def _table_2(network: str, depth: str, params: str, *errors: str) -> list[Published]:
    printed = zip(("C10+", "C10", "C100+", "C100"), errors, strict=True)
    return [
        Published(network, "depth", depth, "Table 2"),
        Published(network, "params", params, "Table 2"),
        *(Published(network, "top1_error", e, "Table 2", protocol=CIFAR_PROTOCOLS[c]) for c, e in printed if e),
    ]


def _table_3(depth: int, top1: str, top5: str, ten1: str, ten5: str) -> list[Published]:
    network = f"densenet{depth}"
    return [
        Published(network, "depth", str(depth), "Table 1", reason=ONE_MORE if depth == 264 else ""),
        Published(network, "top1_error", top1, "Table 3", protocol=ONE),
        Published(network, "top5_error", top5, "Table 3", protocol=ONE),
        Published(network, "top1_error", ten1, "Table 3", protocol=TEN),
        Published(network, "top5_error", ten5, "Table 3", protocol=TEN),
    ]


def _metadata(network: str, params: str, macs: str, top1: str, top5: str) -> list[Published]:
    return [
        Published(network, "params", params, METADATA),
        Published(network, "macs", macs, METADATA),
        Published(network, "top1_accuracy", top1, METADATA, protocol=ONE),
        Published(network, "top5_accuracy", top5, METADATA, protocol=ONE),
    ]


PUBLISHED = [
    *(p for depth, row in TABLE_3.items() for p in _table_3(depth, *row)),
    Published("densenet161", "top1_error", "22.2", "the authors' released models", protocol=ONE),
    Published("densenet121", "output", "56x56x64", "Table 1", layer="pool1"),
    Published("densenet121", "output", "28x28x128", "onnx, light_densenet121", layer="transition1"),
    Published("densenet121", "output", "14x14x256", "onnx, light_densenet121", layer="transition2"),
    Published("densenet121", "output", "7x7x512", "onnx, light_densenet121", layer="transition3"),
    *(p for network, row in TORCHVISION_METADATA.items() for p in _metadata(network, *row)),
    *(p for network, row in TABLE_2.items() for p in _table_2(network, *row)),
    Published("densenet_bc100_k12_cifar", "params", "769162", OSMR),
    Published("densenet_bc250_k24_cifar", "params", "15324406", OSMR),
    Published("densenet_bc190_k40_cifar", "params", "25624430", OSMR),
]
