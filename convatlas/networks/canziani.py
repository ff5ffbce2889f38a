"""An Analysis of Deep Neural Network Models for Practical Applications (Canziani, Paszke and Culurciello, 2017).

arXiv 1605.07678, fourth version. The lecture's last two slides are its charts: accuracy of fourteen networks, accuracy
against operations with the parameters as bubbles, and time and power of the forward pass on an NVIDIA Jetson TX1. It
has no networks of its own: here are the accuracies of its Figure 1 for those that the catalogue has.

Choices:
- The accuracies are top-1 on ImageNet's validation images by one central crop, since the papers' own figures were taken
  by unlike protocols. The code that was used, szagoruyko/imagenet-validation.torch, prints ten of them to two decimals:
  five are here, five in the files of AlexNet, Network in Network and VGG. Those of the chart itself are read off its
  bars: two readings that we know differ by up to 2.5 points.
- Its ResNets are those of fb.resnet.torch, which put the stride on the 3x3, so that from 50 layers on they are our
  `resnet50_v15` and its like.
- Its ENet for ImageNet is left out, because its layers were never published; `enet` is the segmentation network's
  encoder. Its times and powers are left out too: they are curves on a board that nobody has here.
"""

from ..paper import Network, Paper, Published, Recipe

PAPER = Paper(
    "An Analysis of Deep Neural Network Models for Practical Applications",
    "Alfredo Canziani, Adam Paszke, Eugenio Culurciello",
    2017,
    "https://arxiv.org/abs/1605.07678",
)

NETWORKS: dict[str, Network] = {}
RECIPES: dict[str, Recipe] = {}

# ---- What was printed -----------------------------------------------------------------------------------------------

CODE, CHART = "szagoruyko/imagenet-validation.torch", "Figure 1"
CROP = "single central crop"
READ_OFF = f"{CROP}, read off the chart"

BARS = {  # network to top-1 accuracy as read off the chart, in the chart's order
    "alexnet": "55",
    "alexnet_bn": "57",
    "nin_bn": "63",
    "googlenet": "69",
    "resnet18": "70",
    "vgg16": "71",
    "vgg19": "71",
    "resnet34": "73",
    "resnet50_v15": "76",
    "resnet101_v15": "77.5",
    "resnet152_v15": "78",
    "inception_v3": "78.5",
    "inception_v4": "80",
}
PRINTED = {  # to two decimals by the code
    "resnet18": "69.31",
    "resnet34": "72.94",
    "resnet50_v15": "75.76",
    "resnet101_v15": "77.34",
    "inception_v3": "78.53",
}

PUBLISHED = [
    *(Published(name, "top1_accuracy", figure, CODE, protocol=CROP) for name, figure in PRINTED.items()),
    *(Published(name, "top1_accuracy", figure, CHART, protocol=READ_OFF) for name, figure in BARS.items()),
    Published(
        "vgg16",
        "statement",
        "the two VGGs have the most operations, between 30 and 40 G",
        "Figure 2",
        reason="30.9 and 39.3 G where a multiply and an add are two operations, as the paper's counter has it",
    ),
    Published(
        "googlenet",
        "statement",
        "published errors cannot be compared, since they are of unlike numbers of crops",
        "accuracy",
        reason="by one crop GoogLeNet's top-5 error is 10.07 % and VGG-16's 8.70 %, by ten crops 9.15 and 9.33 %",
    ),
    Published("", "watts", "11.8", "power", protocol="Jetson TX1 at work, above idle, the same for every network"),
]
