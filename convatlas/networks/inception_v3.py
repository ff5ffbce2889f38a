"""Rethinking the Inception Architecture for Computer Vision (Szegedy et al., 2015).

Large convolutions are factorised: 5x5 into two 3x3, 7x7 into 1x7 and 7x1; maps shrink in modules whose branches each
have stride 2, so that no layer is a bottleneck. With batch normalisation in its auxiliary classifier, label smoothing
and RMSProp that is Inception-v3.

Departures and choices:
- The network is the one that the authors released (TF-slim's inception_v3) and torchvision has. The paper's Table 1
  prints another stem, with a 3x3 of stride 2 in place of the second pooling and a 3x3 in place of the 1x1 to 80
  channels, and leaves the filters of most modules to a supplement.
- The paper labels no layer. The labels are TF-slim's in lower case; inside the modules its slips (a 3x3 named 1x1) are
  mended.
- Average pooling inside the modules counts the padding as zeros, as in torchvision, whose weights thus give the same
  logits; TensorFlow leaves it out. Batch normalisation's epsilon is 0.001, in both.
- The auxiliary classifier's loss has the weight 0.4, and dropout keeps 80 %, as in the authors' code; torchvision keeps
  50 %. On images too small for that classifier's pooling to leave 5x5 windows, its windows are spread over the map.
- Weights are drawn as in the authors' first release, since the paper does not say how: from a normal distribution cut
  off at two deviations, of deviation 0.1 in convolutions and 0.01 in the classifier; in the auxiliary classifier 0.01
  in the 5x5 and 0.001 in the last layer. torchvision has the same but for 0.1 in the classifier and no cut.
"""

import re

from torch import nn

from ..layers import Concat, WithHeads, chain, conv_bn
from ..paper import Foreign, Network, Paper, Published, Recipe
from .googlenet import head_pool

PAPER = Paper(
    "Rethinking the Inception Architecture for Computer Vision",
    "Christian Szegedy, Vincent Vanhoucke, Sergey Ioffe, Jonathon Shlens, Zbigniew Wojna",
    2015,
    "https://arxiv.org/abs/1512.00567",
)

# ---- The stem and the modules, as TF-slim has them ------------------------------------------------------------------

# A step is TF-slim's label with the number of filters: "0b_1x7:192" is a 1x7 (height x width) that keeps the size,
# "1a_3x3:384" has stride 2 and no padding. "avg" keeps the size, "max" halves it. "1x3+3x1:384" are two convolutions of
# the same input, side by side.
STEM = ("1a_3x3:32", "2a_3x3:32 unpadded", "2b_3x3:64", "3a_max", "3b_1x1:80", "4a_3x3:192 unpadded", "5a_max")


def _figure_5(pool: int) -> tuple[str, ...]:
    return "0a_1x1:64", "0a_1x1:48 0b_5x5:64", "0a_1x1:64 0b_3x3:96 0c_3x3:96", f"avg 0b_1x1:{pool}"


def _figure_6(n: int) -> tuple[str, ...]:
    return (
        "0a_1x1:192",
        f"0a_1x1:{n} 0b_1x7:{n} 0c_7x1:192",
        f"0a_1x1:{n} 0b_7x1:{n} 0c_1x7:{n} 0d_7x1:{n} 0e_1x7:192",
        "avg 0b_1x1:192",
    )


FIGURE_7 = ("0a_1x1:320", "0a_1x1:384 1x3+3x1:384", "0a_1x1:448 0b_3x3:384 1x3+3x1:384", "avg 0b_1x1:192")
MODULES = {
    "mixed_5b": _figure_5(32),
    "mixed_5c": _figure_5(64),
    "mixed_5d": _figure_5(64),
    "mixed_6a": ("1a_3x3:384", "0a_1x1:64 0b_3x3:96 1a_3x3:96", "max"),
    "mixed_6b": _figure_6(128),
    "mixed_6c": _figure_6(160),
    "mixed_6d": _figure_6(160),
    "mixed_6e": _figure_6(192),
    "mixed_7a": ("0a_1x1:192 1a_3x3:320", "0a_1x1:192 0b_1x7:192 0c_7x1:192 1a_3x3:192", "max"),
    "mixed_7b": FIGURE_7,
    "mixed_7c": FIGURE_7,
}
HEAD_WEIGHT = 0.4

# ---- Blocks ---------------------------------------------------------------------------------------------------------


def convolution(
    cin: int, cout: int, kernel: int | tuple[int, int], stride: int = 1, padded: bool = True
) -> nn.Sequential:
    """Convolution, batch normalisation, ReLU. (N,cin,H,W) -> (N,cout,H',W')"""
    made = conv_bn(cin, cout, kernel, stride, padding=None if padded else 0, eps=1e-3)
    return chain(**dict(made.named_children()), relu=nn.ReLU(inplace=True))


def branch(cin: int, steps: str) -> tuple[nn.Sequential, int]:
    """One branch of a module and its channels; a pooling alone hands on the channels that it gets."""
    modules: dict[str, nn.Module] = {}
    for step in steps.split():
        name, _, filters = step.partition(":")
        if name == "avg":
            modules["avgpool_0a_3x3"] = nn.AvgPool2d(3, 1, 1)
        elif name == "max":
            modules["maxpool_1a_3x3"] = nn.MaxPool2d(3, 2)
        elif "+" in name:
            cout = int(filters)
            modules["split"] = Concat(**{f"conv2d_{k}": convolution(cin, cout, _kernel(k)) for k in name.split("+")})
            cin = 2 * cout
        else:
            halves = name.startswith("1a_")
            cout = int(filters)
            modules[f"conv2d_{name}"] = convolution(cin, cout, _kernel(name), 2 if halves else 1, padded=not halves)
            cin = cout
    return chain(**modules), cin


def _kernel(label: str) -> tuple[int, int]:
    """Height and width from a label: "0b_1x7" -> (1, 7)"""
    height, width = label.split("_")[-1].split("x")
    return int(height), int(width)


def mixed(cin: int, branches: tuple[str, ...]) -> tuple[Concat, int]:
    """A module of branches side by side, and the sum of their channels."""
    made = [branch(cin, steps) for steps in branches]
    return Concat(**{f"branch_{n}": module for n, (module, _) in enumerate(made)}), sum(cout for _, cout in made)


def auxiliary(cin: int, classes: int, size: tuple[int, int]) -> nn.Sequential:
    """The auxiliary classifier, of maps of that size. (N,cin,H,W) -> (N,classes)"""
    pool, _ = head_pool(size, least=5)
    return chain(
        avgpool_1a_5x5=pool,
        conv2d_1b_1x1=convolution(cin, 128, 1),
        conv2d_2a_5x5=convolution(128, 768, 5, padded=False),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        logits=nn.Linear(768, classes),
    )


# ---- The network ----------------------------------------------------------------------------------------------------


def stem(cin: int) -> dict[str, nn.Module]:
    """conv2d_1a_3x3 to maxpool_5a_3x3. (N,cin,H,W) -> (N,192,H',W'); 299 -> 35"""
    modules: dict[str, nn.Module] = {}
    for step in STEM:
        label, _, filters = step.partition(":")
        if not filters:
            modules[f"maxpool_{label.removesuffix('max')}3x3"] = nn.MaxPool2d(3, 2)
            continue
        cout, stride = int(filters.split()[0]), 2 if label.startswith("1a_") else 1
        padded = stride == 1 and "unpadded" not in filters
        modules[f"conv2d_{label}"] = convolution(cin, cout, _kernel(label), stride, padded)
        cin = cout
    return modules


def side_6(side: int) -> int:
    """Height or width of the maps of mixed_6a to mixed_6e for an image of that height or width; 299 -> 17"""
    side = (side - 3) // 2 + 1 - 2  # conv2d_1a, conv2d_2a
    side = (side - 3) // 2 + 1 - 2  # maxpool_3a, conv2d_4a
    side = (side - 3) // 2 + 1  # maxpool_5a
    return (side - 3) // 2 + 1  # mixed_6a


def inception_v3(*, classes: int = 1000, channels: int = 3, input: tuple[int, int] = (299, 299)) -> WithHeads:
    """Inception-v3. (N,channels,H,W) -> (N,classes), in training with the auxiliary classifier's logits"""
    modules = stem(channels)
    cin = 192
    for label, branches in MODULES.items():
        modules[label], cin = mixed(cin, branches)
        if label == "mixed_6e":
            modules["auxlogits"] = auxiliary(cin, classes, (side_6(input[0]), side_6(input[1])))
    modules["avgpool_1a_8x8"] = nn.AdaptiveAvgPool2d(1)
    modules["flatten"] = nn.Flatten()
    modules["dropout_1b"] = nn.Dropout(0.2)
    modules["logits"] = nn.Linear(cin, classes)
    return WithHeads(modules, {"auxlogits": "mixed_6e"}, HEAD_WEIGHT)


STANDARD_DEVIATIONS = (
    (r"^auxlogits\.conv2d_2a_5x5", 0.01),
    (r"^auxlogits\.logits", 0.001),
    (r"^logits", 0.01),
    (r"", 0.1),
)


def initialise(net: nn.Module) -> None:
    """Draws weights from a normal distribution, cut off at two deviations; biases are 0.

    The deviations are those of the authors' code of 2016 (tensorflow/models, inception_model.py and slim/ops.py).
    """
    for name, layer in net.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            std = next(std for pattern, std in STANDARD_DEVIATIONS if re.search(pattern, name))
            nn.init.trunc_normal_(layer.weight, 0.0, std, -2 * std, 2 * std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


# torchvision numbers the convolutions of a branch from 1 and names its branches by what they do.
TORCHVISION = (
    (r"^conv2d_", "Conv2d_"),
    (r"^auxlogits\.conv2d_1b_1x1\.", "AuxLogits.conv0."),
    (r"^auxlogits\.conv2d_2a_5x5\.", "AuxLogits.conv1."),
    (r"^auxlogits\.logits\.", "AuxLogits.fc."),
    (r"^logits\.", "fc."),
    (r"^mixed_(5.)\.branch_1\.", r"Mixed_\1.branch5x5"),
    (r"^mixed_(6a)\.branch_0\.conv2d_1a_3x3", r"Mixed_\1.branch3x3"),
    (r"^mixed_(6a)\.branch_1\.", r"Mixed_\1.branch3x3dbl"),
    (r"^mixed_(6.)\.branch_1\.", r"Mixed_\1.branch7x7"),
    (r"^mixed_(6.)\.branch_2\.", r"Mixed_\1.branch7x7dbl"),
    (r"^mixed_(7a)\.branch_0\.conv2d_1a_3x3", r"Mixed_\1.branch3x3_2"),
    (r"^mixed_(7a)\.branch_0\.", r"Mixed_\1.branch3x3"),
    (r"^mixed_(7a)\.branch_1\.conv2d_1a_3x3", r"Mixed_\1.branch7x7x3_4"),
    (r"^mixed_(7a)\.branch_1\.", r"Mixed_\1.branch7x7x3"),
    (r"^mixed_(7.)\.branch_1\.split\.", r"Mixed_\1.branch3x3_2"),
    (r"^mixed_(7.)\.branch_2\.split\.", r"Mixed_\1.branch3x3dbl_3"),
    (r"^mixed_(7.)\.branch_1\.", r"Mixed_\1.branch3x3"),
    (r"^mixed_(..)\.branch_2\.", r"Mixed_\1.branch3x3dbl"),
    (r"^mixed_(..)\.branch_0\.conv2d_0a_1x1", r"Mixed_\1.branch1x1"),
    (r"^mixed_(..)\.branch_3\.conv2d_0b_1x1", r"Mixed_\1.branch_pool"),
    (r"conv2d_1x3\.", "a."),
    (r"conv2d_3x1\.", "b."),
    (r"conv2d_1a_3x3\.", "_3."),
    (r"conv2d_0a_\dx\d\.", "_1."),
    (r"conv2d_0b_\dx\d\.", "_2."),
    (r"conv2d_0c_\dx\d\.", "_3."),
    (r"conv2d_0d_\dx\d\.", "_4."),
    (r"conv2d_0e_\dx\d\.", "_5."),
)

NETWORKS = {
    "inception_v3": Network(
        inception_v3,
        initialise,
        (3, 299, 299),
        1000,
        "inception_v3",
        smallest=75,
        foreign=Foreign("torchvision", "inception_v3", TORCHVISION),
    ),
}

# ---- How it was trained ---------------------------------------------------------------------------------------------

RECIPES = {
    # 50 machines took batches of 32 each. Momentum, weight decay, the average's decay and the head's weight are those
    # of the authors' code (TF-slim), whose changes of hue and saturation are left out.
    "inception_v3": Recipe(
        where="section 8",
        dataset="ImageNet",
        epochs=100,
        batch=32,
        optimiser="rmsprop",
        lr=0.045,
        momentum=0.9,
        decay=0.9,
        epsilon=1.0,
        weight_decay=4e-5,
        decayed="weights",
        clip=2.0,
        schedule="exponential",
        factor=0.94,
        every=2,
        label_smoothing=0.1,
        head_weight=0.4,
        average=0.9999,
        augment=("area 0.08-1", "flip"),
        assumed=("momentum", "weight_decay", "decayed", "head_weight", "average", "augment", "crop"),
    ),
}

# ---- What was printed -----------------------------------------------------------------------------------------------

ONE, MANY = "validation, 1 crop", "validation, 144 crops"
ENSEMBLE = "validation, 4 networks, 144 crops"
BLACKLIST = "; 48,238 images, without those blacklisted"
OSMR, VISION, TIMM = "osmr/imgclsmob", "torchvision 0.29, metadata", "pytorch-image-models"
FIELDS = "google-research/receptive_field"
STEM_DIFFERS = "the paper's Table 1 has a 3x3 without padding here, the released network a 1x1"
OPERATIONS = "5.713 G by our count and by torchvision's; the paper does not say how it counted"
HEAD = "with the 3,326,696 of the auxiliary classifier, which evaluation does not use"
LAYERS = "48 on the longest way through the released network; the paper does not say how it counted"
BUDGET = "1.583 G by our count; GoogLeNet's own table sums to 1.502 G, since it gives conv1 34 M in place of 118 M"
FIVE = "6,998,552 by our count, or 5,973,552 without the linear layer"
TABLE_1 = (
    *(("conv2d_1a_3x3", "149x149x32"), ("conv2d_2a_3x3", "147x147x32"), ("conv2d_2b_3x3", "147x147x64")),
    *(("maxpool_3a_3x3", "73x73x64"), ("maxpool_5a_3x3", "35x35x192"), ("mixed_5d", "35x35x288")),
    *(("mixed_6e", "17x17x768"), ("mixed_7a", "8x8x1280"), ("mixed_7c", "8x8x2048"), ("avgpool_1a_8x8", "1x1x2048")),
)

PUBLISHED = [
    *(Published("inception_v3", "output", size, "Table 1", layer=layer) for layer, size in TABLE_1),
    Published("inception_v3", "output", "71x71x80", "Table 1", layer="conv2d_3b_1x1", reason=STEM_DIFFERS),
    Published("inception_v3", "depth", "42", "section 6", reason=LAYERS),
    Published("inception_v3", "macs", "5e9", "abstract", reason=OPERATIONS),
    Published("inception_v3", "macs", "4.8e9", "Table 3", reason=OPERATIONS),
    Published(
        "inception_v3", "statement", "fewer than 25 million parameters", "abstract", reason="23,834,568 by our count"
    ),
    Published("googlenet", "params", "5e6", "section 1", reason=FIVE),
    Published("googlenet", "macs", "1.5e9", "Table 3", reason=BUDGET),
    Published("googlenet", "top1_error", "29", "Table 3", protocol=ONE),
    Published("googlenet", "top5_error", "9.2", "Table 3", protocol=ONE),
    Published("inception_v3", "top1_error", "21.6", "Table 3", protocol=f"{ONE}, no normalisation in the head"),
    Published("inception_v3", "top5_error", "5.8", "Table 3", protocol=f"{ONE}, no normalisation in the head"),
    Published("inception_v3", "top1_error", "21.2", "Table 3", protocol=ONE + BLACKLIST),
    Published("inception_v3", "top5_error", "5.6", "Table 3", protocol=ONE + BLACKLIST),
    Published("inception_v3", "top1_error", "19.47", "Table 4", protocol="validation, 12 crops" + BLACKLIST),
    Published("inception_v3", "top5_error", "4.48", "Table 4", protocol="validation, 12 crops" + BLACKLIST),
    Published("inception_v3", "top1_error", "18.77", "Table 4", protocol=MANY + BLACKLIST),
    Published("inception_v3", "top5_error", "4.20", "Table 4", protocol=MANY + BLACKLIST),
    Published("inception_v3", "top1_error", "17.2", "Table 5", protocol=ENSEMBLE),
    Published("inception_v3", "top1_error", "17.3", "abstract", protocol=ENSEMBLE),
    Published("inception_v3", "top5_error", "3.5", "abstract", protocol=ENSEMBLE),
    Published("inception_v3", "top5_error", "3.6", "abstract", protocol="test, 4 networks, 144 crops"),
    Published("inception_v3", "params", "23834568", OSMR),
    Published("inception_v3", "params", "27161264", VISION, reason=HEAD),
    Published("inception_v3", "macs", "5.713e9", VISION),
    Published("inception_v3", "top1_accuracy", "77.294", VISION, protocol="validation, 1 crop of 299 from 342"),
    Published("inception_v3", "top5_accuracy", "93.450", VISION, protocol="validation, 1 crop of 299 from 342"),
    Published("inception_v3", "top1_accuracy", "77.472", TIMM, protocol="validation, 299, torchvision's weights"),
    Published("inception_v3", "top5_accuracy", "93.468", TIMM, protocol="validation, 299, torchvision's weights"),
    Published("inception_v3", "field", "1311", FIELDS, layer="mixed_7c"),
    Published("inception_v3", "stride", "32", FIELDS, layer="mixed_7c"),
    Published("inception_v3", "padding", "618", FIELDS, layer="mixed_7c"),
]
