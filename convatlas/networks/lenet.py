"""Gradient-Based Learning Applied to Document Recognition (LeCun, Bottou, Bengio, Haffner, 1998).

Convolutions with shared weights, subsampling, and a classifier, all trained together on pixels: LeNet-5 reads
handwritten digits. `lenet5` is the network as section II.B prints it: trainable subsampling, a sparse C3, the scaled
tanh, and an output of distances to fixed bitmaps. `lenet5_relu` is what the name mostly stands for today: a full C3,
max pooling, ReLU and a linear output.

Departures and choices:
- The output gives minus the squared distances, so that the largest is the answer, as everywhere else, and divides them
  by 10. Cross entropy on it is then the loss of equation 9 without its constant j, which we have no place for. Without
  j, undivided distances, which reach hundreds, give no gradient as soon as the right bitmap is a little nearer than the
  others, and the network learns less. Which class is nearest does not change.
- The bitmaps of Figure 3 are printed as a picture only. Ours are drawn after it, with strokes of two pixels. Where the
  classes are not ten, fixed pseudo-random codes of the same 84 values take their place.
- C5 covers all of S4's maps, whatever their size, so its kernel grows with the image; the paper would slide the 5x5
  kernel over a larger image and give several answers.
"""

import hashlib
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..layers import chain, initialise_torch
from ..paper import Network, Paper, Published, Recipe

PAPER = Paper(
    "Gradient-Based Learning Applied to Document Recognition",
    "Yann LeCun, Léon Bottou, Yoshua Bengio, Patrick Haffner",
    1998,
    "https://doi.org/10.1109/5.726791",
)

# ---- Table I: the maps of S2 that each map of C3 sees ---------------------------------------------------------------

THREE = ((0, 1, 2), (1, 2, 3), (2, 3, 4), (3, 4, 5), (4, 5, 0), (5, 0, 1))  # contiguous
FOUR = (
    *((0, 1, 2, 3), (1, 2, 3, 4), (2, 3, 4, 5), (3, 4, 5, 0), (4, 5, 0, 1), (5, 0, 1, 2)),  # contiguous
    *((0, 1, 3, 4), (1, 2, 4, 5), (0, 2, 3, 5)),  # not contiguous
)
SIX = ((0, 1, 2, 3, 4, 5),)
CONNECTIONS = THREE + FOUR + SIX

# ---- Figure 3: what F6 should show for the digits 0 to 9, 7 wide and 12 high ----------------------------------------

BITMAPS = (
    "..###.. ...##.. .#####. .#####. ....##. ####### ..####. ####### .#####. .#####.",
    ".##.##. ..###.. ##...## ##...## ...###. ##..... .##.... .....## ##...## ##...##",
    "##...## .####.. ##...## .....## ..####. ##..... ##..... .....## ##...## ##...##",
    "##...## ...##.. .....## .....## .##.##. ##..... ##..... ....##. ##...## ##...##",
    "##...## ...##.. ....##. ..####. .##.##. ######. ######. ....##. .#####. ##..###",
    "##...## ...##.. ...##.. ..####. ##..##. .....## ##...## ...##.. .#####. .######",
    "##...## ...##.. ..##... .....## ####### .....## ##...## ...##.. ##...## .....##",
    "##...## ...##.. .##.... .....## ####### .....## ##...## ..##... ##...## .....##",
    ".##.##. ...##.. ##..... ##...## ....##. ##...## ##...## ..##... ##...## ....##.",
    "..###.. .###### ####### .#####. ....##. .#####. .#####. ..##... .#####. .####..",
    "....... ....... ....... ....... ....... ....... ....... ....... ....... .......",
    "....... ....... ....... ....... ....... ....... ....... ....... ....... .......",
)
CODE = 84  # values of a bitmap, and units of F6
VARIANCE = 5  # ours: a distance is a Gaussian's negative log-likelihood, which is divided by twice its variance


def codes(classes: int) -> Tensor:
    """What F6 should show for each class: the bitmaps for ten, else the bits of sha256. (classes,84) of -1 and +1"""
    if classes == 10:
        lines = [line.split() for line in BITMAPS]
        rows = ["".join(line[digit] for line in lines) for digit in range(10)]
        return torch.tensor([[1.0 if pixel == "#" else -1.0 for pixel in row] for row in rows])
    digests = (int.from_bytes(hashlib.sha256(str(c).encode()).digest()) for c in range(classes))
    return torch.tensor([[1.0 if digest >> bit & 1 else -1.0 for bit in range(CODE)] for digest in digests])


# ---- Layers ---------------------------------------------------------------------------------------------------------


class ScaledTanh(nn.Module):
    """1.7159 tanh(2a/3), which maps 1 to 1 and -1 to -1 (equation 6, appendix A)."""

    def forward(self, a: Tensor) -> Tensor:
        return 1.7159 * torch.tanh(a * (2 / 3))


class Subsample(nn.Module):
    """The sum of 2x2 pixels times a coefficient plus a bias, both one a map. (N,maps,H,W) -> (N,maps,H/2,W/2)"""

    def __init__(self, maps: int):
        super().__init__()
        self.coefficient = nn.Parameter(torch.empty(maps, 1, 1))
        self.bias = nn.Parameter(torch.empty(maps, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        mean = nn.functional.avg_pool2d(x, 2)
        return mean * (4 * self.coefficient) + self.bias


class SparseConv(nn.Module):
    """C3: 16 maps, of which each sees only the maps of Table I. (N,6,H,W) -> (N,16,H-4,W-4)

    The maps that see equally many are one grouped convolution over gathered channels, so that a connection that is not
    there has no weight and costs nothing.
    """

    sources: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.three = nn.Conv2d(18, 6, 5, groups=6)
        self.four = nn.Conv2d(36, 9, 5, groups=9)
        self.six = nn.Conv2d(6, 1, 5)
        gathered = [channel for maps in THREE + FOUR for channel in maps]
        self.register_buffer("sources", torch.tensor(gathered), persistent=False)
        self.to(memory_format=torch.channels_last)  # halves a CPU's time for these groups

    def forward(self, x: Tensor) -> Tensor:
        three, four = x.index_select(1, self.sources).split((18, 36), dim=1)
        return torch.cat((self.three(three), self.four(four), self.six(x)), dim=1)


class Distances(nn.Module):
    """Minus the squared distance to each class's code, divided by 2 VARIANCE. (N,84) -> (N,classes)"""

    codes: Tensor

    def __init__(self, classes: int):
        super().__init__()
        self.register_buffer("codes", codes(classes))

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, None] - self.codes).square().sum(dim=2) / (-2 * VARIANCE)


# ---- The networks ---------------------------------------------------------------------------------------------------

SMALLEST = 16  # C1 leaves 12, S2 6, C3 2, S4 1


def s4_size(size: tuple[int, int]) -> tuple[int, int]:
    """Height and width of S4's maps for an image of that height and width."""
    height, width = (((side - 4) // 2 - 4) // 2 for side in size)
    return height, width


def lenet5(*, classes: int = 10, channels: int = 1, input: tuple[int, int] = (32, 32)) -> nn.Sequential:
    """LeNet-5 of Figure 2. (N,channels,H,W) -> (N,classes)"""
    return chain(
        c1=chain(conv=nn.Conv2d(channels, 6, 5), tanh=ScaledTanh()),
        s2=chain(sum=Subsample(6), tanh=ScaledTanh()),
        c3=chain(conv=SparseConv(), tanh=ScaledTanh()),
        s4=chain(sum=Subsample(16), tanh=ScaledTanh()),
        c5=chain(conv=nn.Conv2d(16, 120, s4_size(input)), tanh=ScaledTanh(), flatten=nn.Flatten()),
        f6=chain(linear=nn.Linear(120, CODE), tanh=ScaledTanh()),
        output=Distances(classes),
    )


def initialise(net: nn.Module) -> None:
    """Draws weights and biases uniformly from +-2.4/fan_in (appendix A)."""
    for module in net.modules():
        if isinstance(module, Subsample):
            fan_in = 4
        elif isinstance(module, nn.Conv2d | nn.Linear):
            fan_in = module.weight[0].numel()
        else:
            continue
        for parameter in module.parameters():
            nn.init.uniform_(parameter, -2.4 / fan_in, 2.4 / fan_in)


def lenet5_relu(*, classes: int = 10, channels: int = 1, input: tuple[int, int] = (32, 32)) -> nn.Sequential:
    """LeNet-5 as it is mostly written today. (N,channels,H,W) -> (N,classes)"""
    return chain(
        c1=chain(conv=nn.Conv2d(channels, 6, 5), relu=nn.ReLU()),
        s2=nn.MaxPool2d(2),
        c3=chain(conv=nn.Conv2d(6, 16, 5), relu=nn.ReLU()),
        s4=nn.MaxPool2d(2),
        c5=chain(conv=nn.Conv2d(16, 120, s4_size(input)), relu=nn.ReLU(), flatten=nn.Flatten()),
        f6=chain(linear=nn.Linear(120, CODE), relu=nn.ReLU()),
        output=nn.Linear(CODE, classes),
    )


RELU = "A full C3, max pooling, ReLU and a linear output, as it is mostly written today."

NETWORKS = {
    "lenet5": Network(lenet5, initialise, (1, 32, 32), 10, "lenet", smallest=SMALLEST),
    "lenet5_relu": Network(lenet5_relu, initialise_torch, (1, 32, 32), 10, "lenet", RELU, smallest=SMALLEST),
}

# ---- How it was trained ---------------------------------------------------------------------------------------------

# The paper made 20 passes over single digits by stochastic diagonal Levenberg-Marquardt, with a global rate that falls
# from 0.0005 to 0.00001 (section III.B). With plain momentum other values serve: all of these are ours.
LENET = Recipe(
    where="section III.B",
    dataset="MNIST",
    epochs=20,
    batch=64,
    lr=0.04,
    momentum=0.9,
    schedule="steps",
    drops=(14, 18),
    augment=("pad-crop 2",),
    fit="pad",
    crop=1.0,
    assumed=("batch", "optimiser", "lr", "momentum", "schedule", "drops", "factor", "augment", "validation"),
)
RECIPES = {
    "lenet": LENET,
    # The paper's second training had digits shifted, scaled, squeezed and sheared at random; it does not say how far.
    "lenet_distorted": replace(LENET, augment=("affine 0 0.15 15 2",)),
    # Ours, for two minutes on one core: the elastic distortions of Simard et al. (2003) as well, a rate that falls as a
    # cosine, the running average of the weights, and fewer images held out.
    "lenet_fast": replace(
        LENET,
        where="ours",
        batch=128,
        lr=0.08,
        schedule="cosine",
        drops=(),
        warm_up=0.5,
        average=0.999,
        augment=("affine 10 0.15 10 2", "elastic 8 4"),
        validation=0.02,
        assumed=(
            *("epochs", "batch", "optimiser", "lr", "momentum", "schedule", "warm_up", "average", "augment"),
            "validation",
        ),
    ),
}

# ---- What was printed -----------------------------------------------------------------------------------------------

PUBLISHED = [
    Published("lenet5", "params", "60000", "section II.B"),
    Published("lenet5", "params", "156", "section II.B", layer="c1"),
    Published("lenet5", "params", "12", "section II.B", layer="s2"),
    Published("lenet5", "params", "1516", "section II.B", layer="c3"),
    Published("lenet5", "params", "32", "section II.B", layer="s4"),
    Published("lenet5", "params", "48120", "section II.B", layer="c5"),
    Published("lenet5", "params", "10164", "section II.B", layer="f6"),
    Published("lenet5", "top1_error", "0.95", "section III.B", protocol="test, trained without distortions"),
    Published("lenet5", "top1_error", "0.8", "section III.B", protocol="test, trained with distortions"),
]
