"""The lecture's sections about single networks, from LeNet to ResNet, in its order."""

from collections.abc import Mapping

from .. import units
from ..catalogue import catalogue, table
from ..claims import Claim
from . import tables
from .drawing import memory_and_parameters, module_operations, winners
from .section import Grid, Section
from .words import Say

Found = Mapping[str, tuple[Claim, ...]]


def early(found: Found, say: Say) -> list[Section]:
    """LeNet, AlexNet, the competition's years, ZFNet."""
    total = catalogue().entry("lenet5")
    printed = [c for group in found.values() for c in group if c.metric == "top5_error"]
    errors = {c.protocol: float(c.printed) for c in reversed(printed)}  # of 3.57 and 3.6 the first
    return [
        Section(
            "lenet",
            say("LeNet-5"),
            say("A drawing: convolutions of 5x5 at stride 1 and pooling by turns, then fully connected layers."),
            say(
                "The network of 1998 with its sparse C3 and trained pooling has {params} parameters and {macs} "
                "multiply-adds.",
                params=units.exact(total.params),
                macs=units.exact(total.macs),
            ),
            found["lenet"],
            grids=(tables.layers("lenet5", "LeNet-5, layer by layer", say),),
        ),
        Section(
            "alexnet",
            say("AlexNet, line by line"),
            say("A drawing and a list of the output of every layer; conv1 as (227 - 11) / 4 + 1 = 55."),
            say(
                "All 13 sizes of the one tower that is drawn. The network of the paper, in two towers, normalises "
                "before it pools and has {two} parameters, the one tower {one}.",
                two=units.exact(catalogue().entry("alexnet").params),
                one=units.exact(catalogue().entry("alexnet_one_tower").params),
            ),
            found["alexnet"],
            grids=(tables.alexnet_lines(found["alexnet"], say),),
        ),
        Section(
            "alexnet-training",
            say("How AlexNet was trained"),
            say("A list: ReLU, augmentation, dropout, batch 128, momentum, rate, weight decay, ensemble, two GPUs."),
            say("The recipe `alexnet` of the catalogue is the paper’s; its figures stand beside the lecture’s below."),
            found["alexnet-training"],
        ),
        _winners(found["winners"], errors, say),
        Section(
            "zfnet",
            say("ZFNet"),
            say("A drawing: AlexNet with 7x7 at stride 2 in conv1, and 512, 1024, 512 maps in conv3, conv4, conv5."),
            say(
                "The network of the paper’s Figure 3, which keeps 384, 384, 256 maps, and the wide one of its Table 2."
            ),
            found["zfnet"],
            grids=(
                tables.layers("zfnet", "ZFNet, layer by layer", say),
                tables.side_by_side(("alexnet_one_tower", "zfnet", "zfnet_512"), "AlexNet and the two ZFNets"),
            ),
        ),
    ]


def _winners(claims: tuple[Claim, ...], errors: dict[str, float], say: Say) -> Section:
    return Section(
        "winners",
        say("The winners of ImageNet’s competition"),
        say("A bar chart: the top-5 error of each year’s winner, and the depth of its network."),
        say("Nothing of it can be computed; the bars are drawn anew from the printed figures."),
        claims,
        charts=(winners(errors, say),),
        notes=(say("2013 is the bar that the slide names ZFNet; the error is that of Clarifai."),),
    )


def vgg(found: Found, say: Say) -> list[Section]:
    """VGG's depth, receptive field and memory."""
    account = table("vgg16")
    values = sum(c.computed for c in found["vgg-memory"] if c.metric == "values" and isinstance(c.computed, int))
    return [
        Section(
            "depth",
            say("From 8 layers to 19"),
            say("A drawing: AlexNet, VGG-16 and VGG-19 side by side; 3x3 convolutions throughout."),
            say("The depth of each is the number of layers with weights on the longest way through its own graph."),
            found["depth"],
            grids=(tables.side_by_side(("alexnet", "vgg16", "vgg19"), "Depth and cost"),),
        ),
        Section(
            "field",
            say("Three small kernels or a large one"),
            say("A question: why 3x3? The answer speaks of receptive fields."),
            say(
                "Three 3x3 convolutions see 7x7 pixels, as one 7x7 does, with {three} parameters in place of {one} at "
                "256 channels.",
                three=units.exact(table("three_3x3").totals.params),
                one=units.exact(table("one_7x7").totals.params),
            ),
            found["field"],
            grids=(tables.fields(say),),
        ),
        Section(
            "vgg-memory",
            say("VGG-16, memory and parameters"),
            say(
                "A table: what each layer keeps and how many weights it has; about 96 MB an image and 138 M parameters."
            ),
            say(
                "Every row is right; the sum is not. The rows come to {values} numbers, {bytes} at four bytes each, "
                "and {params} parameters with biases.",
                values=units.exact(values),
                bytes=units.count(4 * values, "B", digits=4),
                params=units.exact(account.totals.params),
            ),
            found["vgg-memory"],
            charts=(memory_and_parameters(say),),
            grids=(tables.vgg_lines(found["vgg-memory"], say),),
        ),
    ]


def googlenet(found: Found, say: Say) -> list[Section]:
    """GoogLeNet and its module."""
    alex, google = catalogue().entry("alexnet"), catalogue().entry("googlenet")
    naive, reduced = tables.macs("inception_naive"), tables.macs("inception_reduced")
    return [
        Section(
            "googlenet",
            say("GoogLeNet"),
            say(
                "A drawing of the whole network: 22 layers, no fully connected ones, 5 M parameters, 1/12 of AlexNet’s."
            ),
            say(
                "{params} parameters, {times} times fewer than AlexNet’s, and one linear layer at the end.",
                params=units.exact(google.params),
                times=f"{alex.params / google.params:.1f}",
            ),
            found["googlenet"],
            grids=(tables.googlenet_table(),),
        ),
        Section(
            "inception-naive",
            say("The naive Inception module"),
            say("Two drawings with sizes: 28x28x256 in, 28x28x672 out, 854 M operations."),
            say("Term by term from the module’s account: {macs} multiply-adds.", macs=units.exact(naive)),
            found["inception-naive"],
            grids=(tables.module("inception_naive", "The naive module, term by term", say),),
        ),
        Section(
            "inception-reduced",
            say("The module with 1x1 reduction"),
            say("Two drawings and a list of six products that is said to sum to 358 M operations."),
            say(
                "The six products are right and sum to {macs}; so the reduction saves {factor} times, not 2.39 times.",
                macs=units.exact(reduced),
                factor=f"{naive / reduced:.2f}",
            ),
            found["inception-reduced"],
            charts=(module_operations(say),),
            grids=(tables.module("inception_reduced", "The reduced module, term by term", say),),
        ),
    ]


def resnet(found: Found, say: Say) -> list[Section]:
    """Degradation, the residual block, the network, the bottleneck, training and results."""
    cifar = ("plain20_cifar", "plain56_cifar", "resnet20_cifar", "resnet56_cifar")
    depths = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
    return [
        Section(
            "degradation",
            say("Deeper and worse: 20 and 56 layers"),
            say("Two charts: training and test error of plain networks of 20 and 56 layers on CIFAR-10."),
            say("A chart of trainings; the networks’ costs stand below. The command trains them on your data."),
            found["degradation"],
            grids=(tables.side_by_side(cifar, "The networks of this experiment"),),
            command="convatlas experiment degradation DATA --out runs/degradation",
        ),
        Section(
            "residual",
            say("The residual block"),
            say("A drawing: two convolutions and, beside them, the input that is added to their output."),
            say(
                "An identity shortcut costs nothing: with and without it the parameters and multiply-adds are the same."
            ),
            found.get("residual", ()),
            grids=(tables.side_by_side(("plain34", "resnet34_a"), "34 layers, plain and residual"),),
        ),
        Section(
            "resnet",
            say("ResNet, 18 to 152 layers"),
            say(
                "A drawing: 3x3 convolutions in blocks of two, now and then twice the filters at stride 2; 34, 50, "
                "100, 152 layers."
            ),
            say("The networks of the paper’s Table 1, with their depth from their own graphs."),
            found["resnet"],
            grids=(
                tables.side_by_side(depths, "The ResNets"),
                tables.layers("resnet34", "ResNet-34, stage by stage", say),
            ),
        ),
        _bottleneck(found["bottleneck"], say),
        Section(
            "resnet-training",
            say("How ResNet was trained"),
            say("A list: batch norm, initialisation, momentum, rate 0.1, batch 256, weight decay, no dropout."),
            say("The recipe `resnet` of the catalogue is the paper’s; its figures stand beside the lecture’s below."),
            found["resnet-training"],
        ),
        Section(
            "resnet-results",
            say("What ResNet reached"),
            say("A list: 152 layers on ImageNet, 1202 on CIFAR-10, 3.57 % top-5 error, better than a human."),
            say("Errors of trainings cannot be computed; each is shown with how it was taken."),
            found["resnet-results"],
        ),
    ]


def _bottleneck(claims: tuple[Claim, ...], say: Say) -> Section:
    block, plain = tables.macs("bottleneck_block"), tables.macs("basic_block_256")
    return Section(
        "bottleneck",
        say("The bottleneck"),
        say("A drawing: 28x28x256 to 64 maps by 1x1, one 3x3, and back to 256 by 1x1."),
        say(
            "{block} multiply-adds, {times} times fewer than two 3x3 convolutions of 256 maps.",
            block=units.exact(block),
            times=f"{plain / block:.1f}",
        ),
        claims,
        grids=(tables.bottleneck(say),),
    )


def network_in_network(found: Found, say: Say) -> list[Section]:
    """The last drawings of the lecture."""
    layers: tuple[Grid, ...] = (
        tables.layers("nin_cifar", "Network in Network for CIFAR-10", say),
        tables.layers("nin", "Network in Network for ImageNet", say),
    )
    return [
        Section(
            "nin",
            say("Network in Network"),
            say("Two drawings: the mlpconv layer, and a network that stacks three of them."),
            say("A convolution and two of 1x1, three times over, then global average pooling."),
            found["nin"],
            grids=layers,
        )
    ]
