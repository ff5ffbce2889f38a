"""Network In Network (Lin, Chen, Yan, 2013).

Behind each convolution stand 1x1 convolutions, so that a small network slides over the image in place of a linear
filter ("cccp", cascaded cross channel parametric pooling). The last ones give a map for each class, and its mean is the
class's score: no fully connected layers.

`nin_cifar` is the paper's network for CIFAR-10. The paper prints none for ImageNet: `nin` is the one that its first
author released for Caffe, and `nin_bn` the batch-normalised one of soumith/imagenet-multiGPU.torch.

Departures and choices:
- Widths, poolings, ReLUs (the class maps have one too) and the drawing of weights are those of the author's Caffe
  files, as the paper gives neither widths nor kernels. The second pooling on CIFAR-10 is an average there.
- Caffe rounds a pooling's size up, and so do `nin` and `nin_cifar`; Torch's, in `nin_bn`, is padded by 1.
- The last average is over the whole map, whatever its size.
"""

from torch import nn

from ..layers import chain, initialise_normal, initialise_torch
from ..paper import Network, Paper, Published, Recipe

PAPER = Paper(
    "Network In Network",
    "Min Lin, Qiang Chen, Shuicheng Yan",
    2013,
    "https://arxiv.org/abs/1312.4400",
)

# ---- The Caffe files and models/ninbn.lua, a block a line: kernel, stride, padding, widths --------------------------

Block = tuple[int, int, int, tuple[int, int, int]]
CLASSES = 0  # stands for the number of classes
IMAGENET: tuple[Block, ...] = (
    (11, 4, 0, (96, 96, 96)),
    (5, 1, 2, (256, 256, 256)),
    (3, 1, 1, (384, 384, 384)),
    (3, 1, 1, (1024, 1024, CLASSES)),
)
CIFAR: tuple[Block, ...] = (
    (5, 1, 2, (192, 160, 96)),
    (5, 1, 2, (192, 192, 192)),
    (3, 1, 1, (192, 192, CLASSES)),
)
NORMALISED: tuple[Block, ...] = (
    (11, 4, 5, (96, 96, 96)),
    (5, 1, 2, (256, 256, 256)),
    (3, 1, 1, (384, 384, 384)),
    (3, 1, 1, (1024, 1024, 1024)),
)

# ---- Blocks ---------------------------------------------------------------------------------------------------------


def convolution(
    cin: int, cout: int, kernel: int, stride: int = 1, padding: int = 0, *, norm: bool = False
) -> nn.Sequential:
    """(N,cin,H,W) -> (N,cout,H/stride,W/stride), rounded as padding and kernel say. Biases stay beside `norm`."""
    stage = chain(conv=nn.Conv2d(cin, cout, kernel, stride, padding))
    if norm:
        stage.add_module("bn", nn.BatchNorm2d(cout, eps=1e-3))
    stage.add_module("relu", nn.ReLU(inplace=True))
    return stage


def mlpconv(number: int, cin: int, block: Block, *, classes: int, norm: bool = False) -> dict[str, nn.Module]:
    """Block `number` from 1 up: a convolution and two 1x1 (Figure 1b). (N,cin,H,W) -> (N,last width,H',W')"""
    kernel, stride, padding, widths = block
    first, second, third = (width or classes for width in widths)
    return {
        f"conv{number}": convolution(cin, first, kernel, stride, padding, norm=norm),
        f"cccp{2 * number - 1}": convolution(first, second, 1, norm=norm),
        f"cccp{2 * number}": convolution(second, third, 1, norm=norm),
    }


def mean(number: int) -> dict[str, nn.Module]:
    """Each map's mean. (N,c,H,W) -> (N,c)"""
    return {f"pool{number}": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}


# ---- The networks ---------------------------------------------------------------------------------------------------


def nin(*, classes: int = 1000, channels: int = 3, input: tuple[int, int] = (224, 224)) -> nn.Sequential:
    """The author's network for ImageNet, for images of any size. (N,channels,H,W) -> (N,classes)"""
    one, two, three, four = IMAGENET
    return chain(
        **mlpconv(1, channels, one, classes=classes),
        pool1=nn.MaxPool2d(3, 2, ceil_mode=True),
        **mlpconv(2, 96, two, classes=classes),
        pool2=nn.MaxPool2d(3, 2, ceil_mode=True),
        **mlpconv(3, 256, three, classes=classes),
        pool3=nn.MaxPool2d(3, 2, ceil_mode=True),
        drop=nn.Dropout(0.5),
        **mlpconv(4, 384, four, classes=classes),
        **mean(4),
    )


def nin_cifar(*, classes: int = 10, channels: int = 3, input: tuple[int, int] = (32, 32)) -> nn.Sequential:
    """The paper's network for CIFAR-10 (Figure 2), for images of any size. (N,channels,H,W) -> (N,classes)"""
    one, two, three = CIFAR
    return chain(
        **mlpconv(1, channels, one, classes=classes),
        pool1=nn.MaxPool2d(3, 2, ceil_mode=True),
        drop1=nn.Dropout(0.5),
        **mlpconv(2, 96, two, classes=classes),
        pool2=nn.AvgPool2d(3, 2, ceil_mode=True),
        drop2=nn.Dropout(0.5),
        **mlpconv(3, 192, three, classes=classes),
        **mean(3),
    )


def nin_bn(*, classes: int = 1000, channels: int = 3, input: tuple[int, int] = (224, 224)) -> nn.Sequential:
    """Batch-normalised and with a linear layer at the end. (N,channels,H,W) -> (N,classes)"""
    one, two, three, four = NORMALISED
    return chain(
        **mlpconv(1, channels, one, classes=classes, norm=True),
        pool1=nn.MaxPool2d(3, 2, 1),
        **mlpconv(2, 96, two, classes=classes, norm=True),
        pool2=nn.MaxPool2d(3, 2, 1),
        **mlpconv(3, 256, three, classes=classes, norm=True),
        pool3=nn.MaxPool2d(3, 2, 1),
        **mlpconv(4, 384, four, classes=classes, norm=True),
        **mean(4),
        fc=nn.Linear(1024, classes),
    )


NARROW = ("conv1", "conv3", "cccp8")  # layers whose weights begin smaller in the Caffe file for ImageNet


def initialise(net: nn.Sequential) -> None:
    """Draws weights from N(0, 0.05^2), of conv1, conv3 and cccp8 from N(0, 0.01^2); biases are 0 (the Caffe file)."""
    for name, layer in net.named_children():
        initialise_normal(layer, 0.01 if name in NARROW else 0.05)


def initialise_cifar(net: nn.Module) -> None:
    """Draws weights from N(0, 0.05^2) and sets biases to 0 (the Caffe file)."""
    initialise_normal(net, 0.05)


IMAGENET_ABOUT = "The network for ImageNet that the first author released for Caffe; the paper prints none."
BN_ABOUT = "With batch normalisation and a linear layer at the end, as in soumith/imagenet-multiGPU.torch."

NETWORKS = {
    "nin": Network(nin, initialise, (3, 224, 224), 1000, "nin", IMAGENET_ABOUT, smallest=39),
    "nin_cifar": Network(nin_cifar, initialise_cifar, (3, 32, 32), 10, "nin_cifar", smallest=4),
    "nin_bn": Network(nin_bn, initialise_torch, (3, 224, 224), 1000, "nin_bn", BN_ABOUT),
}

# ---- How they were trained ------------------------------------------------------------------------------------------

RECIPES = {
    "nin": Recipe(
        where="the first author's Caffe solver",
        dataset="ImageNet",
        iterations=450_000,
        batch=64,
        lr=0.01,
        momentum=0.9,
        weight_decay=5e-4,
        decayed="weights",
        bias_lr=2.0,
        schedule="steps",
        drops=(200_000, 400_000),
        augment=("side 256-256", "flip"),
    ),
    # The rate falls to a tenth, twice, when the accuracy on the training set stops improving. The paper augments by
    # "translation and horizontal flipping" without a width.
    "nin_cifar": Recipe(
        where="section 4",
        dataset="CIFAR-10",
        epochs=200,
        batch=128,
        lr=0.01,
        momentum=0.9,
        weight_decay=1e-5,
        schedule="plateau",
        watch="training",
        augment=("pad-crop 4", "flip"),
        crop=1.0,
        whiten="zca",
        assumed=("epochs", "lr", "momentum", "weight_decay", "patience", "augment", "validation"),
    ),
    # Its last 11 epochs are without weight decay.
    "nin_bn": Recipe(
        where="models/ninbn.lua",
        dataset="ImageNet",
        epochs=30,
        batch=128,
        lr=0.1,
        momentum=0.9,
        weight_decay=5e-4,
        schedule="steps",
        drops=(9, 19, 25),
        augment=("side 256-256", "flip"),
        assumed=("batch", "momentum", "weight_decay", "augment"),
    ),
}

# ---- What was printed -----------------------------------------------------------------------------------------------

GIST = "mavenlin, Caffe model zoo"
CENTRE = "validation, 1 crop of 224 from 256"
HALVES = "that count adds 1/2 for each ReLU and for each pixel under a pooling window"

PUBLISHED = [
    Published("nin_cifar", "top1_error", "10.41", "Table 1", protocol="test, no augmentation"),
    Published("nin_cifar", "top1_error", "8.81", "Table 1", protocol="test"),
    Published("nin_cifar", "top1_error", "35.68", "Table 2", protocol="test of CIFAR-100, no augmentation"),
    Published("nin_cifar", "top1_accuracy", "89.6", GIST, protocol="test"),
    Published("nin_cifar", "params", "966986", "osmr/imgclsmob"),
    Published("nin_cifar", "macs", "222.97e6", "osmr/imgclsmob", reason=HALVES),
    Published("nin_cifar", "top1_error", "7.43", "osmr/imgclsmob", protocol="test"),
    Published("nin", "top1_accuracy", "59.36", GIST, protocol=CENTRE),
    Published("nin_bn", "top1_accuracy", "62.6", "soumith/imagenet-multiGPU.torch", protocol="validation"),
    Published("nin_bn", "top1_accuracy", "62.62", "szagoruyko/imagenet-validation.torch", protocol=CENTRE),
]
