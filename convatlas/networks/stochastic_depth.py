"""Deep Networks with Stochastic Depth (Huang, Sun, Liu, Sedra, Weinberger, 2016).

In training, each residual block is passed over by chance, later ones more often, so that a shorter network learns at a
time; in use all blocks take part, each weighted by how often it did. That regularises, and saves a quarter of the time.

Block l of L survives with p_l = 1 - l/L (1 - p_L), p_L = 0.5 (equation 4): one gate a block and mini-batch, drawn from
torch's global generator. In evaluation its branch is multiplied by p_l (equation 5). A block's `survival` is its p_l
and may be changed: with 1 everywhere it is the network that is not stochastic, and its weights fit as they are.

Departures and choices:
- Where the maps halve, the shortcut takes every second pixel and puts half of the zero channels before and half after,
  as our ResNets' does (option A). The authors' Torch code averages 2x2 pixels and puts all zeros after.
- Their code gives convolutions biases, which the normalisation after them takes away; ours have none.
"""

from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from ..layers import initialise_he
from ..paper import Network, Paper, Published, Recipe
from .resnet import Block, resnet_cifar

PAPER = Paper(
    "Deep Networks with Stochastic Depth",
    "Gao Huang, Yu Sun, Zhuang Liu, Daniel Sedra, Kilian Weinberger",
    2016,
    "https://arxiv.org/abs/1603.09382",
)

# ---- Section 3 ------------------------------------------------------------------------------------------------------

LAST = 0.5  # p_L

# ---- The block ------------------------------------------------------------------------------------------------------


class StochasticBlock(Block):
    """relu(body(x) + shortcut(x)) or, with the chance of 1 - survival in training, shortcut(x) alone."""

    shortcut: nn.Module

    def __init__(self, block: Block, survival: float):
        super().__init__(block.body, block.shortcut)
        self.survival = survival

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return self.relu(self.survival * self.body(x) + self.shortcut(x))
        if self.survival < 1 and float(torch.rand((), device="cpu")) >= self.survival:
            return self.shortcut(x)  # x is not negative after the ReLU before it, so there is nothing to cut off
        return super().forward(x)


# ---- The network ----------------------------------------------------------------------------------------------------


def stochastic(
    depth: int,
    *,
    classes: int = 10,
    channels: int = 3,
    input: tuple[int, int] = (32, 32),
) -> nn.Sequential:
    """A CIFAR-10 network of depth = 6n+2 layers, for images of any size. (N,channels,H,W) -> (N,classes)"""
    net = resnet_cifar(depth, classes=classes, channels=channels, input=input)
    stages = [net.get_submodule(label) for label in ("conv2", "conv3", "conv4")]
    places = [(stage, number, block) for stage in stages for number, block in stage.named_children()]
    for position, (stage, number, block) in enumerate(places, 1):
        assert isinstance(block, Block)
        stage.add_module(number, StochasticBlock(block, survival=1 - position / len(places) * (1 - LAST)))
    return net


NETWORKS = {
    "resnet110_sd_cifar": Network(partial(stochastic, 110), initialise_he, (3, 32, 32), 10, "stochastic_depth_cifar"),
}

# ---- How it was trained ---------------------------------------------------------------------------------------------

CIFAR = Recipe(
    where="section 4 and the authors' main.lua",
    dataset="CIFAR-10",
    epochs=500,
    batch=128,
    optimiser="nesterov",
    lr=0.1,
    momentum=0.9,
    weight_decay=1e-4,
    schedule="steps",
    drops=(250, 375),
    augment=("pad-crop 4", "flip"),
    crop=1.0,
    validation=0.1,
)
RECIPES = {
    "stochastic_depth_cifar": CIFAR,
    # 152 layers there; 6,000 of 604,388 images are held out.
    "stochastic_depth_svhn": replace(CIFAR, dataset="SVHN", epochs=50, drops=(30, 35), augment=(), validation=0.01),
}

# ---- What was printed -----------------------------------------------------------------------------------------------

TEST = "test, at the best validation error"
TEST_100 = f"{TEST}, CIFAR-100"

PUBLISHED = [
    Published("resnet110_sd_cifar", "depth", "110", "section 4"),
    Published("resnet110_sd_cifar", "top1_error", "5.25", "Table 1", protocol=TEST),
    Published("resnet110_sd_cifar", "top1_error", "24.98", "Table 1", protocol=TEST_100),
    Published("resnet110_sd_cifar", "top1_error", "5.23", "the authors' README", protocol=TEST),
    Published("resnet110_sd_cifar", "top1_error", "24.58", "Table 1, last version", protocol=TEST_100),
    Published("resnet110_cifar", "top1_error", "6.41", "Table 1", protocol=TEST),
    Published("resnet110_cifar", "top1_error", "27.76", "Table 1", protocol=TEST_100),
    Published("resnet1202_cifar", "top1_error", "4.91", "abstract", protocol="test, with stochastic depth"),
]
