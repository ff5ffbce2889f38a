"""CNN Architectures (Fei-Fei Li, Justin Johnson, Serena Yeung, 2017).

Lecture 9 of CS231n goes through the networks of ImageNet's competition and compares them. It has no networks of its
own: here are the figures and statements that its Chinese notes ("lecture notes") and its slides ("lecture slides")
print about the papers' networks, so that `convatlas claims lecture` says of each whether it holds.

Choices:
- A figure is checked against the network that the lecture draws: its list of AlexNet's 14 lines against
  `alexnet_one_tower`, what it says about the paper's network against `alexnet`.
- A product such as 28x28x128x256 is entered as the number that it comes to.
"""

from ..paper import Network, Paper, Published, Recipe

PAPER = Paper(
    "CNN Architectures",
    "Fei-Fei Li, Justin Johnson, Serena Yeung",
    2017,
    "https://cs231n.stanford.edu/2017/syllabus",
)

NETWORKS: dict[str, Network] = {}
RECIPES: dict[str, Recipe] = {}

# ---- The list of AlexNet's lines, and the slide of VGG-16's memory and parameters -----------------------------------

ALEXNET_LINES = {
    "conv1": "55x55x96",
    "pool1": "27x27x96",
    "norm1": "27x27x96",
    "conv2": "27x27x256",
    "pool2": "13x13x256",
    "norm2": "13x13x256",
    "conv3": "13x13x384",
    "conv4": "13x13x384",
    "conv5": "13x13x256",
    "pool5": "6x6x256",
    "fc6": "4096",
    "fc7": "4096",
    "fc8": "1000",
}
VGG16_LINES = (  # layer, numbers kept (a 0 at a figure's end is rounded away: 800K is 0.80e6), weights without biases
    ("conv1_1", "3.2e6", "1728"),
    ("conv1_2", "3.2e6", "36864"),
    ("pool1", "0.80e6", "0"),
    ("conv2_1", "1.6e6", "73728"),
    ("conv2_2", "1.6e6", "147456"),
    ("pool2", "0.40e6", "0"),
    ("conv3_1", "0.80e6", "294912"),
    ("conv3_2", "0.80e6", "589824"),
    ("conv3_3", "0.80e6", "589824"),
    ("pool3", "0.20e6", "0"),
    ("conv4_1", "0.40e6", "1179648"),
    ("conv4_2", "0.40e6", "2359296"),
    ("conv4_3", "0.40e6", "2359296"),
    ("pool4", "0.10e6", "0"),
    ("conv5_1", "0.10e6", "2359296"),
    ("conv5_2", "0.10e6", "2359296"),
    ("conv5_3", "0.10e6", "2359296"),
    ("pool5", "25e3", "0"),
    ("fc6", "4096", "102760448"),
    ("fc7", "4096", "16777216"),
    ("fc8", "1000", "4096000"),
)

# ---- What was printed -----------------------------------------------------------------------------------------------


def _true(network: str, section: str, words: str, support: str) -> Published:
    return Published(network, "statement", words, f"{NOTES}, {section}", reason=support)


def _not(network: str, section: str, words: str, reason: str) -> Published:
    return Published(network, "statement", words, f"{NOTES}, {section}", reason=reason, differs=True)


NOTES, SLIDES = "lecture notes", "lecture slides"
ALEX, ZF, VGG, GOOG = "AlexNet", "ZFNet", "VGGNet", "GoogLeNet"
RES, COMPARED, OTHERS = "ResNet", "comparison", "other architectures"
SUM = (
    "the column's own entries sum to 15,237,608 values, which are 60.95 MB (58.1 MiB); with a separate copy for each "
    "ReLU they would be 28.8 M and 115 MB"
)
TWICE = "the six terms that are listed sum to 271,351,808; 358,055,936 counts the 3x3 term, 86,704,128, twice"
WIDTHS = "the paper's network (Figure 3) keeps 384, 384, 256; 512-1024-512 is a variant of Table 2, here `zfnet_512`"
SAME_FIELD = (
    "three 3x3 see 7x7 pixels, exactly as one 7x7 does; what falls is the number of parameters, 27 C^2 against 49 C^2, "
    "and there are three non-linearities in place of one"
)
SEVEN = "test, the 7 networks of the competition"

PUBLISHED = [
    _true(
        "lenet5",
        "LeNet",
        "convolution and pooling by turns, 5x5 at stride 1, then fully connected",
        "so it is; C3 is sparse, and its pooling has trained coefficients",
    ),
    Published("lenet5", "field", "5", f"{NOTES}, LeNet", layer="c1"),
    # ---- AlexNet
    Published("alexnet_one_tower", "weights", "34848", f"{NOTES}, {ALEX}", layer="conv1"),
    Published("alexnet_one_tower", "params", "0", f"{NOTES}, {ALEX}", layer="pool1"),
    *(
        Published("alexnet_one_tower", "output", size, f"{NOTES}, {ALEX}", layer=layer)
        for layer, size in ALEXNET_LINES.items()
    ),
    Published("alexnet_one_tower", "layers", " ".join(ALEXNET_LINES), f"{NOTES}, {ALEX}"),
    Published(
        "alexnet",
        "layers",
        " ".join(ALEXNET_LINES),
        f"{NOTES}, {ALEX}",
        reason="the paper normalises before it pools; the other order is CaffeNet's",
    ),
    Published("alexnet", "depth", "8", f"{NOTES}, {VGG}"),
    Published("alexnet", "top5_error", "18.2", f"{NOTES}, {ALEX}", protocol="validation, 1 network"),
    Published("alexnet", "top5_error", "15.4", f"{NOTES}, {ALEX}", protocol="validation, 7 networks, 2 with more data"),
    _not(
        "alexnet",
        ALEX,
        "an ensemble brings the error from 18.2 to 15.4 %",
        "two of the seven networks were first trained on more data (ImageNet Fall 2011); five like ones give 16.4 %",
    ),
    _not(
        "alexnet",
        ALEX,
        "the first use of ReLU",
        "Jarrett et al. (2009), Nair and Hinton (2010) and Glorot et al. (2011) had used it",
    ),
    _not(
        "alexnet",
        ALEX,
        "the rate is divided by 10 at saddle points",
        "the paper divides it when the validation error stops falling, three times",
    ),
    _true(
        "alexnet", ALEX, "dropout and weight decay are used", "dropout of 0.5 in fc6 and fc7, weight decay of 0.0005"
    ),
    Published("alexnet", "lr", "0.01", f"{NOTES}, {ALEX}"),
    Published("alexnet", "batch", "128", f"{NOTES}, {ALEX}"),
    Published("alexnet", "momentum", "0.9", f"{NOTES}, {ALEX}"),
    Published("alexnet", "weight_decay", "5e-4", f"{SLIDES}, {ALEX}"),
    _not(
        "alexnet",
        ALEX,
        "the two GPUs talk to each other in fc6, fc7 and fc8",
        "also before conv3, which sees the maps of both",
    ),
    Published(
        "alexnet",
        "params",
        "60e6",
        f"{NOTES}, {GOOG}",
        reason="the paper's two towers come to 60,965,224, the one tower that the lecture lists to 62,378,344",
    ),
    # ---- ZFNet
    Published("zfnet", "field", "7", f"{NOTES}, {ZF}", layer="conv1"),
    Published("zfnet", "stride", "2", f"{NOTES}, {ZF}", layer="conv1"),
    *(
        Published("zfnet", "channels", width, f"{NOTES}, {ZF}", layer=layer, reason=WIDTHS)
        for layer, width in (("conv3", "512"), ("conv4", "1024"), ("conv5", "512"))
    ),
    _not(
        "zfnet",
        ZF,
        "only conv1 and the widths of conv3, conv4 and conv5 differ from AlexNet",
        "conv2 also has stride 2; without it the same layers would have 386,548,840 parameters",
    ),
    _not(
        "zfnet",
        ZF,
        "the winner of ILSVRC 2013",
        "the winner was Clarifai, the company of its first author; the paper's best result is 14.8 %",
    ),
    Published(
        "zfnet",
        "top5_error",
        "11.7",
        f"{SLIDES}, {ZF}",
        protocol="test, several networks",
        differs=True,
        reason="11.7 % is Clarifai's; the paper's best is 14.8 % (test, 6 networks)",
    ),
    # ---- VGG
    _not("vgg19", VGG, "19 and 22 layers are GoogLeNet's and VGGNet's, in this order", "VGG has 19, GoogLeNet 22"),
    Published("vgg16", "depth", "16", f"{NOTES}, {VGG}"),
    Published("vgg19", "depth", "19", f"{NOTES}, {VGG}"),
    Published("vgg19", "top5_error", "7.3", f"{NOTES}, {VGG}", protocol=SEVEN),
    _not("three_3x3", VGG, "several small kernels see a larger field than a large one", SAME_FIELD),
    Published("three_3x3", "field", "7", f"{SLIDES}, {VGG}"),
    Published("vgg16", "params", "138e6", f"{NOTES}, {VGG}"),
    Published("vgg16", "weights", "138344128", f"{SLIDES}, {VGG}"),
    Published("vgg16", "value_bytes", "96e6", f"{NOTES}, {VGG}", reason=SUM),
    Published("vgg16", "values", "24e6", f"{SLIDES}, {VGG}", reason=SUM),
    Published("vgg16", "value_bytes", "93e6", "CS231n course notes", reason=SUM),
    Published("vgg16", "inputs", "0.15e6", f"{SLIDES}, {VGG}"),
    *(Published("vgg16", "activations", kept, f"{SLIDES}, {VGG}", layer=layer) for layer, kept, _ in VGG16_LINES),
    *(Published("vgg16", "weights", weights, f"{SLIDES}, {VGG}", layer=layer) for layer, _, weights in VGG16_LINES),
    _true(
        "vgg16",
        VGG,
        "most memory is in the first layers, most parameters in the last",
        "conv1_1 and conv1_2 keep 42 % of the values, the fully connected layers have 89 % of the parameters",
    ),
    _not("vgg16", VGG, "F7 is the last fully connected layer", "FC7 is the last but one, FC8 the last"),
    _true("vgg19", VGG, "second in classification, first in localisation in 2014", "as in the paper"),
    # ---- GoogLeNet
    Published("googlenet", "depth", "22", f"{NOTES}, {GOOG}"),
    Published(
        "googlenet",
        "params",
        "5e6",
        f"{NOTES}, {GOOG}",
        reason="6,998,552, or 5,973,552 without the last linear layer; the column of the paper's Table 1 sums to 6.8 M",
    ),
    Published(
        "alexnet",
        "params",
        "12",
        f"{NOTES}, {GOOG}",
        versus="googlenet",
        reason="12 is 60 M by 5 M; the networks as printed differ 8.7 times, and the one tower 8.9 times",
    ),
    Published(
        "googlenet",
        "params",
        "0",
        f"{NOTES}, {GOOG}, fully connected layers",
        layer="linear",
        reason="there is one linear layer, 1024 to 1000, and in training two more in each auxiliary head",
    ),
    Published("googlenet", "top5_error", "6.7", f"{NOTES}, {GOOG}", protocol="test, 7 networks, 144 crops"),
    _not(
        "googlenet",
        GOOG,
        "the 1x1, 3x3 and 5x5 of a module are one layer with weights",
        "each module counts as two: reduction, then convolution; with one the sum would be 13, not 22",
    ),
    Published("inception_naive", "macs", "8.54e8", f"{NOTES}, {GOOG}"),
    Published("inception_naive", "output", "28x28x672", f"{NOTES}, {GOOG}"),
    Published("inception_naive", "macs", "25690112", f"{NOTES}, {GOOG}", layer="1x1"),
    Published("inception_naive", "macs", "346816512", f"{NOTES}, {GOOG}", layer="3x3"),
    Published("inception_naive", "macs", "481689600", f"{NOTES}, {GOOG}", layer="5x5"),
    Published("inception_reduced", "macs", "3.58e8", f"{NOTES}, {GOOG}", reason=TWICE),
    Published(
        "inception_naive", "macs", "8.4e8", f"{NOTES}, {GOOG}, repeated", reason="a slip: the same page says 8.54e8"
    ),
    Published("inception_reduced", "output", "28x28x480", f"{SLIDES}, {GOOG}"),
    # ---- ResNet
    _true(
        "plain56_cifar",
        RES,
        "a plain network of 56 layers has larger training and test errors than one of 20",
        "the paper's Figure 1, on CIFAR-10",
    ),
    _not(
        "resnet50",
        RES,
        "every residual block has two 3x3 convolutions",
        "with 50 and more layers a block is 1x1, 3x3, 1x1",
    ),
    Published("resnet34", "depth", "34", f"{NOTES}, {RES}"),
    Published("resnet50", "depth", "50", f"{NOTES}, {RES}"),
    Published("resnet101", "depth", "100", f"{NOTES}, {RES}", reason="a slip: the slides and the paper say 101"),
    Published("resnet152", "depth", "152", f"{NOTES}, {RES}"),
    Published(
        "resnet34",
        "params",
        "0",
        f"{NOTES}, {RES}, fully connected layers",
        layer="fc",
        reason="after global average pooling a linear layer gives the 1000 classes, as the notes also say",
    ),
    Published("bottleneck_block", "output", "28x28x64", f"{NOTES}, {RES}", layer="body.conv1"),
    Published("bottleneck_block", "output", "28x28x256", f"{NOTES}, {RES}", layer="body.conv3"),
    _not("resnet152", RES, "initialised as by Xavier", "by He et al., variance 2/fan_in; the slide says Xavier/2"),
    Published(
        "resnet152", "weight_decay", "1e-5", f"{SLIDES}, {RES}", reason="the paper and fb.resnet.torch have 0.0001"
    ),
    Published("resnet152", "lr", "0.1", f"{NOTES}, {RES}"),
    Published("resnet152", "batch", "256", f"{NOTES}, {RES}"),
    Published("resnet152", "momentum", "0.9", f"{NOTES}, {RES}"),
    _true("resnet152", RES, "no dropout", "so it is"),
    Published("resnet152", "top5_error", "3.57", f"{NOTES}, {RES}", protocol="test, 6 networks, two of 152 layers"),
    Published(
        "resnet152", "top5_error", "3.6", f"{NOTES}, {RES}, results", protocol="test, 6 networks, two of 152 layers"
    ),
    _not(
        "resnet1202_cifar",
        RES,
        "very deep networks train without degradation, up to 1202 layers on CIFAR-10",
        "1202 layers do train, to an error under 0.1 %, but test worse than 110: 7.93 against 6.43 %",
    ),
    _true(
        "resnet152",
        RES,
        "first in all competitions of ILSVRC and COCO 2015",
        "in the five main ones: classification, detection, localisation, COCO detection, COCO segmentation",
    ),
    _true("resnet152", RES, "better than a human", "3.57 against about 5.1 % top-5 (Russakovsky et al., 2015)"),
    # ---- The competition's years, the comparison, Network in Network
    Published("", "top5_error", "28.2", f"{SLIDES}, winners", protocol="ILSVRC 2010 winner, shallow"),
    Published("", "top5_error", "25.8", f"{SLIDES}, winners", protocol="ILSVRC 2011 winner, shallow"),
    Published("alexnet", "top5_error", "16.4", f"{SLIDES}, winners", protocol="ILSVRC 2012 winner, 5 networks"),
    Published("googlenet", "top5_error", "6.7", f"{SLIDES}, winners", protocol="ILSVRC 2014 winner, 7 networks"),
    Published("", "top5_error", "5.1", f"{SLIDES}, winners", protocol="a human"),
    _not(
        "inception_v4",
        COMPARED,
        "Inception-v4 joins ResNet and Inception",
        "it has no residual connections; Inception-ResNet-v1 and v2 of the same paper have",
    ),
    _true(
        "googlenet",
        COMPARED,
        "GoogLeNet is the most efficient, VGG the least; AlexNet computes little and keeps much",
        "1.6, 15.5 and 0.7 G multiply-adds; 7.0, 138.4 and 61.0 M parameters",
    ),
    Published("vgg16", "forward_ms", "200", f"{NOTES}, {COMPARED}", protocol="Jetson TX1, read off a chart"),
    _not("nin", OTHERS, 'the "MIP" convolution layer', "a slip: mlpconv, from multilayer perceptron"),
    _not("googlenet", COMPARED, '"GoogleNet" and "Gooqle Net"', "the paper writes GoogLeNet, after LeNet"),
]
