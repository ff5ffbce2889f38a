"""FractalNet: Ultra-Deep Neural Networks without Residuals (Larsson, Maire, Shakhnarovich, 2016).

A block is made of itself: f_1 is a convolution, and f_(C+1) joins one convolution with f_C after f_C, by their mean.
Its columns thus have 1, 2, 4, ... convolutions, and no signal passes a block untouched. Drop-path leaves out ways at
random, so that no column relies on another and each is a network of its own.

Departures and choices:
- The layers are those of the authors' released code (gustavla/fractalnet): convolution with bias, dropout, batch
  normalisation, ReLU, and 0 to 40 % dropout by block. Joins that would follow each other at once are one join of up to
  C ways. The last join of a block comes after the 2x2 max pooling of each column.
- Batch normalisation has scale and shift here, as is usual; the released code's has none.
- Local and global drop-path take turns at random by mini-batch, half each. A dropped way is still computed and its
  weights get gradients of zero, as in the authors' layer for Caffe: its running statistics and its momentum go on, and
  every process of a distributed training has the same gradients.
- The choices come from torch's global generator of the CPU, so that a training repeats by its seed.
- Where images are larger than 32x32, the maps behind the last pooling are averaged.
- 33.7 M parameters come from the widths of the released code. Huang et al. (DenseNet) print 38.6 M for the network of
  these errors; what they count is not known.
"""

import functools
import operator

import torch
from torch import Tensor, nn

from ..layers import chain
from ..paper import Network, Paper, Published, Recipe

PAPER = Paper(
    "FractalNet: Ultra-Deep Neural Networks without Residuals",
    "Gustav Larsson, Michael Maire, Gregory Shakhnarovich",
    2016,
    "https://arxiv.org/abs/1605.07648",
)

# ---- The released code's settings -----------------------------------------------------------------------------------

COLUMNS = 3
WIDTHS = (64, 128, 256, 512, 512)
DROPOUT = (0.0, 0.1, 0.2, 0.3, 0.4)
DROP_PATH = 0.15
GLOBAL_SHARE = 0.5  # of the mini-batches

# ---- Blocks ---------------------------------------------------------------------------------------------------------


class Join(nn.Module):
    """The mean of the ways that are kept. [(N,C,H,W), ...] -> (N,C,H,W)

    `column` keeps one way only (global drop-path); else each is dropped with probability `drop`, but never all (local).
    """

    def forward(self, ways: list[Tensor], drop: float = 0.0, column: int | None = None) -> Tensor:
        number = len(ways)
        if number == 1:
            return ways[0]
        if column is not None or drop:
            keep = kept(number, drop) if column is None else [n == column for n in range(number)]
            ways = [way * float(k) for way, k in zip(ways, keep, strict=True)]
            number = sum(keep)
        return functools.reduce(operator.add, ways) / number


def kept(ways: int, drop: float) -> list[bool]:
    """Which ways into a join are kept: each with probability 1 - drop, and one at random if that leaves none."""
    keep = (torch.rand(ways, device="cpu") >= drop).tolist()
    if not any(keep):
        keep[int(torch.randint(ways, (), device="cpu"))] = True
    return keep


def layer(cin: int, width: int, dropout: float) -> nn.Sequential:
    """(N,cin,H,W) -> (N,width,H,W)"""
    return chain(
        conv=nn.Conv2d(cin, width, 3, padding=1),
        dropout=nn.Dropout(dropout),
        bn=nn.BatchNorm2d(width),
        relu=nn.ReLU(inplace=True),
    )


class Fractal(nn.Module):
    """f_C without its last join: C columns side by side, the shallowest first. (N,cin,H,W) -> C times (N,width,H,W)"""

    def __init__(self, columns: int, cin: int, width: int, dropout: float):
        super().__init__()
        self.columns = columns
        self.shallow = layer(cin, width, dropout)
        if columns > 1:
            self.first = Fractal(columns - 1, cin, width, dropout)
            self.join = Join()
            self.second = Fractal(columns - 1, width, width, dropout)

    def forward(self, x: Tensor, drop: float = 0.0, column: int | None = None) -> list[Tensor]:
        shallow = self.shallow(x)
        if self.columns == 1:
            return [shallow]
        # Where the shallow column is kept, this block's last join drops all that comes out of the inner ones.
        inner = None if column is None else max(column - 1, 0)
        middle = self.join(self.first(x, drop, inner), drop, inner)
        return [shallow, *self.second(middle, drop, inner)]


class Block(nn.Module):
    """A fractal, each column's 2x2 max pooling, and the last join. (N,cin,H,W) -> (N,width,H/2,W/2)"""

    def __init__(self, columns: int, cin: int, width: int, dropout: float):
        super().__init__()
        self.fractal = Fractal(columns, cin, width, dropout)
        self.pool = nn.MaxPool2d(2)
        self.join = Join()

    def forward(self, x: Tensor, drop: float = 0.0, column: int | None = None) -> Tensor:
        return self.join([self.pool(way) for way in self.fractal(x, drop, column)], drop, column)


# ---- The network ----------------------------------------------------------------------------------------------------


class FractalNet(nn.Sequential):
    """Blocks and a classifier, with drop-path in training; `drop_path` is the local probability, and 0 turns both off.

    A block by itself, as for its features, drops nothing.
    """

    def __init__(self, modules: dict[str, nn.Module], columns: int, drop_path: float):
        super().__init__()
        for name, module in modules.items():
            self.add_module(name, module)
        self.columns = columns
        self.drop_path = drop_path

    def forward(self, x: Tensor) -> Tensor:
        drop, column = self.draw() if self.training and self.drop_path else (0.0, None)
        for module in self:
            x = module(x, drop, column) if isinstance(module, Block) else module(x)
        return x

    def draw(self) -> tuple[float, int | None]:
        """This mini-batch's local probability, or its one column."""
        if torch.rand((), device="cpu") < GLOBAL_SHARE:
            return 0.0, int(torch.randint(self.columns, (), device="cpu"))
        return self.drop_path, None


def fractalnet20(*, classes: int = 10, channels: int = 3, input: tuple[int, int] = (32, 32)) -> FractalNet:
    """A CIFAR network of five blocks, for images of any size from 32x32. (N,channels,H,W) -> (N,classes)"""
    modules: dict[str, nn.Module] = {}
    cin = channels
    for b, (width, dropout) in enumerate(zip(WIDTHS, DROPOUT, strict=True), 1):
        modules[f"block{b}"] = Block(COLUMNS, cin, width, dropout)
        cin = width
    modules |= {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "fc": nn.Linear(cin, classes)}
    return FractalNet(modules, COLUMNS, DROP_PATH)


def initialise(net: nn.Module) -> None:
    """Draws weights uniformly from +-sqrt(3/fan_in), the "xavier" of Caffe and of the released code; biases are 0."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            bound = (3 / module.weight[0].numel()) ** 0.5
            nn.init.uniform_(module.weight, -bound, bound)
            nn.init.zeros_(module.bias)


NETWORKS = {
    "fractalnet20_cifar": Network(fractalnet20, initialise, (3, 32, 32), 10, "fractalnet_cifar", smallest=32),
}

# ---- How it was trained ---------------------------------------------------------------------------------------------

RECIPES = {
    # The rate falls to a tenth each time the number of remaining epochs halves; what comes after the fourth time would
    # change nothing. Weight decay is not printed.
    "fractalnet_cifar": Recipe(
        where="section 4",
        dataset="CIFAR-10",
        epochs=400,
        batch=100,
        lr=0.02,
        momentum=0.9,
        weight_decay=1e-4,
        schedule="steps",
        drops=(200, 300, 350, 375),
        augment=("pad-crop 4", "flip"),
        crop=1.0,
        assumed=("weight_decay", "augment", "validation"),
    ),
}

# ---- What was printed -----------------------------------------------------------------------------------------------

QUOTED = "Densely Connected Convolutional Networks, Table 2"
COUNT = "the widths of the released code give 33.7 M; what the 38.6 M counts is not known"
BOTH = "dropout and drop-path"
NEITHER = "neither dropout nor drop-path"


def _error(printed: str, protocol: str) -> Published:
    return Published("fractalnet20_cifar", "top1_error", printed, "Table 1", protocol=protocol)


PUBLISHED = [
    Published("fractalnet20_cifar", "params", "38.6e6", QUOTED, reason=COUNT),
    _error("4.60", f"CIFAR-10, test, {BOTH}"),
    _error("5.22", f"CIFAR-10, test, {NEITHER}"),
    _error("7.33", f"CIFAR-10, test, {BOTH}, no augmentation"),
    _error("10.18", f"CIFAR-10, test, {NEITHER}, no augmentation"),
    _error("23.73", f"CIFAR-100, test, {BOTH}"),
    _error("23.30", f"CIFAR-100, test, {NEITHER}"),
    _error("28.20", f"CIFAR-100, test, {BOTH}, no augmentation"),
    _error("35.34", f"CIFAR-100, test, {NEITHER}, no augmentation"),
    _error("22.85", "CIFAR-100, test, heavy augmentation"),
]
