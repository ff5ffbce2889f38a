"""ImageNet Classification with Deep Convolutional Neural Networks (Krizhevsky, Sutskever, Hinton, 2012).

Five convolutions and three fully connected layers with ReLU, dropout and overlapping pooling won ILSVRC 2012 with a
top-5 error of 15.3 %, against 26.2 % of the next. The network is spread over two GPUs, of which each has half of the
kernels: `alexnet` has the two towers as groups on one device, and convatlas.split puts them on two.

Departures and choices:
- The paper prints an input of 224x224, whose convolution at stride 4 without padding would give 54x54; its 55x55 maps
  need 227x227, as in Caffe's files, which is the input here.
- The towers meet at conv3 and at the fully connected layers and nowhere else, so each tower's maps are normalised among
  themselves. Caffe's bvlc_alexnet runs on one GPU and normalises across the towers' border: the two maps on each side
  of it differ, parameters and MACs do not.
- The paper adds up alpha times the squares of 5 maps; PyTorch takes their mean, hence 5e-4 for the paper's 1e-4.
- Dropout stands behind the ReLU of fc6 and fc7, since the paper sets the outputs of their neurons to zero. Torch and
  torchvision have it before the weights of fc6 and fc7: `alexnet_owt`, `alexnet_owt_bn`, `alexnet_bn`.
- `alexnet_one_tower` is the network as lectures draw it, without groups and with pooling before normalisation.
- `alexnet_owt` is the single tower of "One weird trick for parallelizing convolutional neural networks" (Krizhevsky,
  2014, arXiv:1404.5997) in torchvision's form, which averages the last maps to 6x6 whatever their size.
- `alexnet_bn` is the BN-AlexNet that Canziani et al. (2016) measured: two towers that meet at fc6 for the first time.
  Its stored file of 247 MB does not tell whether fc6 and fc7 are normalised too; here they are not. The epsilon and the
  place of dropout are not known either, and are taken from the Torch networks of its time (soumith's, szagoruyko's).
"""

from typing import NamedTuple

from torch import Tensor, nn

from ..layers import chain, initialise_normal, initialise_torch
from ..paper import Foreign, Network, Paper, Published, Recipe

PAPER = Paper(
    "ImageNet Classification with Deep Convolutional Neural Networks",
    "Alex Krizhevsky, Ilya Sutskever, Geoffrey E. Hinton",
    2012,
    "https://papers.nips.cc/paper/4824-imagenet-classification-with-deep-convolutional-neural-networks",
)

# ---- Section 3.5 and Figure 2 ---------------------------------------------------------------------------------------


class Conv(NamedTuple):
    maps: int
    kernel: int
    stride: int = 1
    padding: int = 0
    groups: int = 1


class Pool(NamedTuple):
    kernel: int = 3
    stride: int = 2
    padding: int = 0
    ceil: bool = False  # a last window may reach over the edge


class Norm(NamedTuple):
    towers: int = 1


Layers = dict[str, Conv | Pool | Norm]

TWO_TOWERS: Layers = {
    "conv1": Conv(96, 11, 4),
    "norm1": Norm(towers=2),
    "pool1": Pool(),
    "conv2": Conv(256, 5, padding=2, groups=2),
    "norm2": Norm(towers=2),
    "pool2": Pool(),
    "conv3": Conv(384, 3, padding=1),
    "conv4": Conv(384, 3, padding=1, groups=2),
    "conv5": Conv(256, 3, padding=1, groups=2),
    "pool5": Pool(),
}
ONE_TOWER: Layers = {
    "conv1": Conv(96, 11, 4),
    "pool1": Pool(),
    "norm1": Norm(),
    "conv2": Conv(256, 5, padding=2),
    "pool2": Pool(),
    "norm2": Norm(),
    "conv3": Conv(384, 3, padding=1),
    "conv4": Conv(384, 3, padding=1),
    "conv5": Conv(256, 3, padding=1),
    "pool5": Pool(),
}
ONE_WEIRD_TRICK: Layers = {
    "conv1": Conv(64, 11, 4, 2),
    "pool1": Pool(),
    "conv2": Conv(192, 5, padding=2),
    "pool2": Pool(),
    "conv3": Conv(384, 3, padding=1),
    "conv4": Conv(256, 3, padding=1),
    "conv5": Conv(256, 3, padding=1),
    "pool5": Pool(),
}
SEPARATE_TOWERS: Layers = {
    "conv1": Conv(96, 11, 4, 2),
    "pool1": Pool(),
    "conv2": Conv(256, 5, padding=2, groups=2),
    "pool2": Pool(),
    "conv3": Conv(384, 3, padding=1, groups=2),
    "conv4": Conv(384, 3, padding=1, groups=2),
    "conv5": Conv(256, 3, padding=1, groups=2),
    "pool5": Pool(),
}
EPSILON = 1e-3  # of Torch's batch-normalised networks

# ---- Layers ---------------------------------------------------------------------------------------------------------


def local_norm() -> nn.LocalResponseNorm:
    """a / (2 + 1e-4 * sum of the squares of 5 neighbouring maps)^0.75 (section 3.3)."""
    return nn.LocalResponseNorm(5, alpha=5e-4, beta=0.75, k=2)


class TowerNorm(nn.Module):
    """Local response normalisation in each tower's half of the maps. (N,C,H,W) -> (N,C,H,W)"""

    def __init__(self) -> None:
        super().__init__()
        self.norm = local_norm()

    def forward(self, x: Tensor) -> Tensor:
        towers = x.unflatten(1, (2, -1)).flatten(0, 1)
        return self.norm(towers).unflatten(0, (-1, 2)).flatten(1, 2)


def stages(layers: Layers, channels: int, *, bn: bool = False) -> dict[str, nn.Module]:
    """A table's rows as modules: a convolution with its ReLU, a pooling, a normalisation."""
    out: dict[str, nn.Module] = {}
    for label, layer in layers.items():
        if isinstance(layer, Pool):
            out[label] = nn.MaxPool2d(layer.kernel, layer.stride, layer.padding, ceil_mode=layer.ceil)
        elif isinstance(layer, Norm):
            out[label] = TowerNorm() if layer.towers == 2 else local_norm()
        else:
            maps, kernel, stride, padding, groups = layer
            parts: dict[str, nn.Module] = {"conv": nn.Conv2d(channels, maps, kernel, stride, padding, groups=groups)}
            if bn:
                parts["bn"] = nn.BatchNorm2d(maps, eps=EPSILON)
            out[label] = chain(**parts, relu=nn.ReLU(inplace=True))
            channels = maps
    return out


def features(layers: Layers, size: tuple[int, int]) -> int:
    """How many values the last maps of a table have for an image of that height and width."""
    maps, sides = 0, list(size)
    for layer in layers.values():
        if isinstance(layer, Norm):
            continue
        slack = layer.stride - 1 if isinstance(layer, Pool) and layer.ceil else 0
        sides = [(side + 2 * layer.padding - layer.kernel + slack) // layer.stride + 1 for side in sides]
        maps = layer.maps if isinstance(layer, Conv) else maps
    return maps * sides[0] * sides[1]


def fully_connected(cin: int, classes: int) -> dict[str, nn.Module]:
    """fc6, fc7 and fc8, with dropout behind the ReLUs. (N,C,H,W) with C*H*W = cin -> (N,classes)"""
    return {
        "fc6": chain(
            flatten=nn.Flatten(), linear=nn.Linear(cin, 4096), relu=nn.ReLU(inplace=True), dropout=nn.Dropout(0.5)
        ),
        "fc7": chain(linear=nn.Linear(4096, 4096), relu=nn.ReLU(inplace=True), dropout=nn.Dropout(0.5)),
        "fc8": nn.Linear(4096, classes),
    }


def fully_connected_torch(cin: int, classes: int, *, bn: bool = False) -> dict[str, nn.Module]:
    """The same with dropout before the weights, as Torch and torchvision have it."""

    def hidden(cin: int) -> dict[str, nn.Module]:
        parts: dict[str, nn.Module] = {"dropout": nn.Dropout(0.5), "linear": nn.Linear(cin, 4096)}
        if bn:
            parts["bn"] = nn.BatchNorm1d(4096, eps=EPSILON)
        return parts | {"relu": nn.ReLU(inplace=True)}

    return {
        "fc6": chain(flatten=nn.Flatten(), **hidden(cin)),
        "fc7": chain(**hidden(4096)),
        "fc8": nn.Linear(4096, classes),
    }


# ---- The networks ---------------------------------------------------------------------------------------------------


def alexnet(*, classes: int = 1000, channels: int = 3, input: tuple[int, int] = (227, 227)) -> nn.Sequential:
    """The network of Figure 2, its two towers as groups. (N,channels,H,W) -> (N,classes)"""
    return chain(**stages(TWO_TOWERS, channels), **fully_connected(features(TWO_TOWERS, input), classes))


def alexnet_one_tower(*, classes: int = 1000, channels: int = 3, input: tuple[int, int] = (227, 227)) -> nn.Sequential:
    """Every convolution sees all maps, and pooling comes before normalisation. (N,channels,H,W) -> (N,classes)"""
    return chain(**stages(ONE_TOWER, channels), **fully_connected(features(ONE_TOWER, input), classes))


def alexnet_owt(*, classes: int = 1000, channels: int = 3, input: tuple[int, int] = (224, 224)) -> nn.Sequential:
    """torchvision's, for images of any size. (N,channels,H,W) -> (N,classes)"""
    average = nn.AdaptiveAvgPool2d(6)
    last = fully_connected_torch(256 * 6 * 6, classes)
    return chain(**stages(ONE_WEIRD_TRICK, channels), avgpool=average, **last)


def alexnet_owt_bn(*, classes: int = 1000, channels: int = 3, input: tuple[int, int] = (224, 224)) -> nn.Sequential:
    """soumith/imagenet-multiGPU.torch's alexnetowtbn. (N,channels,H,W) -> (N,classes)"""
    last = fully_connected_torch(features(ONE_WEIRD_TRICK, input), classes, bn=True)
    return chain(**stages(ONE_WEIRD_TRICK, channels, bn=True), **last)


def alexnet_bn(*, classes: int = 1000, channels: int = 3, input: tuple[int, int] = (227, 227)) -> nn.Sequential:
    """szagoruyko's BN-AlexNet, its two towers as groups. (N,channels,H,W) -> (N,classes)"""
    last = fully_connected_torch(features(SEPARATE_TOWERS, input), classes)
    return chain(**stages(SEPARATE_TOWERS, channels, bn=True), **last)


def initialise(net: nn.Module) -> None:
    """Draws weights from N(0, 0.01^2); biases of conv2, conv4, conv5, fc6 and fc7 are 1, the others 0 (section 5)."""
    initialise_normal(net, 0.01)
    for label in ("conv2.conv", "conv4.conv", "conv5.conv", "fc6.linear", "fc7.linear"):
        nn.init.ones_(net.get_parameter(f"{label}.bias"))


TORCHVISION = (
    (r"^conv1\.conv\.", "features.0."),
    (r"^conv2\.conv\.", "features.3."),
    (r"^conv3\.conv\.", "features.6."),
    (r"^conv4\.conv\.", "features.8."),
    (r"^conv5\.conv\.", "features.10."),
    (r"^fc6\.linear\.", "classifier.1."),
    (r"^fc7\.linear\.", "classifier.4."),
    (r"^fc8\.", "classifier.6."),
)

ONE = "One tower as lectures draw it: no groups, pooling before normalisation."
OWT = "The single tower of One Weird Trick, 64-192-384-256-256 and no normalisation, as in torchvision."
OWT_BN = "The single tower of One Weird Trick with batch normalisation, by Soumith Chintala for Torch."
BN = "BN-AlexNet as Canziani et al. measured it: two towers that meet at fc6 only, with batch normalisation."
LARGE, SMALL = (3, 227, 227), (3, 224, 224)

NETWORKS = {
    "alexnet": Network(alexnet, initialise, LARGE, 1000, "alexnet", smallest=67),
    "alexnet_one_tower": Network(alexnet_one_tower, initialise, LARGE, 1000, "alexnet", ONE, 67),
    "alexnet_owt": Network(
        alexnet_owt, initialise_torch, SMALL, 1000, "alexnet", OWT, 63, Foreign("torchvision", "alexnet", TORCHVISION)
    ),
    "alexnet_owt_bn": Network(alexnet_owt_bn, initialise_torch, SMALL, 1000, "alexnet", OWT_BN, 63),
    "alexnet_bn": Network(alexnet_bn, initialise_torch, LARGE, 1000, "alexnet", BN, 63),
}

# ---- How it was trained ---------------------------------------------------------------------------------------------

RECIPES = {
    # The paper lowers the rate by hand when the validation error stands still, three times in all, and crops 224 of the
    # central 256x256.
    "alexnet": Recipe(
        where="section 5",
        dataset="ImageNet",
        epochs=90,
        batch=128,
        lr=0.01,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="plateau",
        augment=("side 256-256", "pca-colour 0.1", "flip"),
        view="ten-crop",
        assumed=("patience", "crop"),
    ),
    # Caffe subtracts a mean image, brings images to 256x256 whatever their aspect, and draws fully connected weights
    # from N(0, 0.005^2) with biases of 0.1, where 1 gave a loss that did not move.
    "bvlc_alexnet": Recipe(
        where="Caffe's models/bvlc_alexnet",
        dataset="ImageNet",
        iterations=450_000,
        batch=256,
        lr=0.01,
        momentum=0.9,
        weight_decay=5e-4,
        decayed="weights",
        bias_lr=2.0,
        schedule="steps",
        drops=(100_000, 200_000, 300_000, 400_000),
        augment=("side 256-256", "flip"),
        assumed=("crop",),
    ),
}

# ---- What was printed -----------------------------------------------------------------------------------------------

TEN, CENTRE = "validation, 10 crops", "validation, central crop"
TABLE_2, FIGURE_2 = "Table 2", "Figure 2"
MORE = "first trained on ImageNet Fall 2011 with a sixth convolution"
FIELDS, VISION = "google-research/receptive_field, alexnet_v2", "torchvision 0.29, metadata"
ROUND = "60,965,224 by our count: the paper gives a round figure"
NEURONS = (
    "the layers with weights give 659,272, and 622,312 with Figure 2's count for conv1; here the outputs of "
    "normalisation and pooling are counted too"
)
CONV1 = "55x55x96 is 290,400; the printed figure is 55x48x96"
AT_224 = (
    "for 224x224 with pooling that rounds up it is 1,131.46 M; the other 0.88 M is half an operation for each ReLU and "
    "for each value under a pooling window"
)
SHARE = "conv3 has 885,120 parameters, 1.45 % of all, and conv4 1.09 %"
INPUT = "224x224x3 is 150,528, but 55x55 maps need 227x227 without padding, which is 154,587"

PUBLISHED = [
    Published("alexnet", "params", "60e6", "abstract", reason=ROUND),
    Published("alexnet", "activations", "650e3", "abstract", reason=NEURONS),
    Published("alexnet", "depth", "8", "section 3.5"),
    Published(
        "alexnet",
        "statement",
        "no convolution has more than 1 % of the parameters",
        "section 1",
        reason=SHARE,
        differs=True,
    ),
    Published("alexnet", "statement", "the input is 150,528-dimensional", FIGURE_2, reason=INPUT, differs=True),
    Published("alexnet", "activations", "253440", FIGURE_2, layer="conv1", reason=CONV1),
    Published("alexnet", "activations", "186624", FIGURE_2, layer="conv2"),
    Published("alexnet", "activations", "64896", FIGURE_2, layer="conv3"),
    Published("alexnet", "activations", "64896", FIGURE_2, layer="conv4"),
    Published("alexnet", "activations", "43264", FIGURE_2, layer="conv5"),
    Published("alexnet", "activations", "4096", FIGURE_2, layer="fc6"),
    Published("alexnet", "activations", "4096", FIGURE_2, layer="fc7"),
    Published("alexnet", "activations", "1000", FIGURE_2, layer="fc8"),
    Published("alexnet", "top1_error", "37.5", "Table 1", protocol="ILSVRC 2010 test, 10 crops"),
    Published("alexnet", "top5_error", "17.0", "Table 1", protocol="ILSVRC 2010 test, 10 crops"),
    Published("alexnet", "top1_error", "39.0", "section 6", protocol="ILSVRC 2010 test, central crop"),
    Published("alexnet", "top5_error", "18.3", "section 6", protocol="ILSVRC 2010 test, central crop"),
    Published("alexnet", "top1_error", "40.7", TABLE_2, protocol=TEN),
    Published("alexnet", "top5_error", "18.2", TABLE_2, protocol=TEN),
    Published("alexnet", "top1_error", "38.1", TABLE_2, protocol=f"{TEN}, 5 networks"),
    Published("alexnet", "top5_error", "16.4", TABLE_2, protocol=f"{TEN}, 5 networks"),
    Published("alexnet", "top5_error", "16.4", TABLE_2, protocol="test, 5 networks"),
    Published("alexnet", "top1_error", "39.0", TABLE_2, protocol=f"{TEN}, {MORE}"),
    Published("alexnet", "top5_error", "16.6", TABLE_2, protocol=f"{TEN}, {MORE}"),
    Published("alexnet", "top1_error", "36.7", TABLE_2, protocol=f"{TEN}, 7 networks, two of them {MORE}"),
    Published("alexnet", "top5_error", "15.4", TABLE_2, protocol=f"{TEN}, 7 networks, two of them {MORE}"),
    Published("alexnet", "top5_error", "15.3", TABLE_2, protocol=f"test, 7 networks, two of them {MORE}"),
    Published("alexnet", "top1_error", "40.5", "Zeiler and Fergus 2013, Table 2", protocol=f"{TEN}, replicated"),
    Published("alexnet", "top5_error", "18.1", "Zeiler and Fergus 2013, Table 2", protocol=f"{TEN}, replicated"),
    Published("alexnet", "top1_accuracy", "57.1", "BVLC/caffe, bvlc_alexnet", protocol=CENTRE),
    Published("alexnet", "top5_accuracy", "80.2", "BVLC/caffe, bvlc_alexnet", protocol=CENTRE),
    Published(
        "alexnet", "top1_accuracy", "57.4", "BVLC/caffe, CaffeNet", protocol=f"{CENTRE}, pooling before normalisation"
    ),
    Published(
        "alexnet", "top5_accuracy", "80.4", "BVLC/caffe, CaffeNet", protocol=f"{CENTRE}, pooling before normalisation"
    ),
    Published("alexnet", "top1_accuracy", "54.61", "szagoruyko/imagenet-validation.torch", protocol=CENTRE),
    Published("alexnet_bn", "top1_accuracy", "56.60", "szagoruyko/imagenet-validation.torch", protocol=CENTRE),
    Published("alexnet_one_tower", "params", "62378344", "osmr/imgclsmob"),
    Published("alexnet_one_tower", "macs", "1132.33e6", "osmr/imgclsmob", reason=AT_224),
    Published("alexnet_owt", "params", "61100840", VISION),
    Published("alexnet_owt", "macs", "0.714e9", VISION),
    Published("alexnet_owt", "top1_accuracy", "56.522", VISION, protocol=CENTRE),
    Published("alexnet_owt", "top5_accuracy", "79.066", VISION, protocol=CENTRE),
    Published("alexnet", "padding", "64", FIELDS, layer="pool5"),
    Published("alexnet_owt", "field", "11", FIELDS, layer="conv1"),
    Published("alexnet_owt", "field", "51", FIELDS, layer="conv2"),
    Published("alexnet_owt", "field", "99", FIELDS, layer="conv3"),
    Published("alexnet_owt", "field", "131", FIELDS, layer="conv4"),
    Published("alexnet_owt", "field", "163", FIELDS, layer="conv5"),
    Published("alexnet_owt", "field", "195", FIELDS, layer="pool5"),
    Published("alexnet_owt", "stride", "4", FIELDS, layer="conv1"),
    Published("alexnet_owt", "stride", "8", FIELDS, layer="conv2"),
    Published("alexnet_owt", "stride", "16", FIELDS, layer="conv3"),
    Published("alexnet_owt", "stride", "16", FIELDS, layer="conv4"),
    Published("alexnet_owt", "stride", "16", FIELDS, layer="conv5"),
    Published("alexnet_owt", "stride", "32", FIELDS, layer="pool5"),
]
