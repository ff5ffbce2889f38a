"""ENet: A Deep Neural Network Architecture for Real-Time Semantic Segmentation (Paszke et al., 2016).

The image is made small at once, to 16 maps of half its height and width, and then goes through narrow bottlenecks whose
middle convolution is 3x3, dilated, or a 5x1 and 1x5 in place of a 5x5: few parameters, a large receptive field.

`enet` is the encoder (Table 1, initial to bottleneck3.8) with a mean over the map and a linear layer in place of the
decoder, so that it tells classes of images. It is not the ENet of Canziani et al.'s comparison on ImageNet, whose
layers were never published.

Departures and choices:
- What the paper leaves open is as in the authors' code (e-lab/ENet-training, encoder.lua): the middle convolutions
  keep a bias, PReLU has a slope for each map, and normalisation has an epsilon of 0.001.
- The initial block's pooling rounds up, so that it fits its convolution at odd sizes too; at even ones nothing changes.
- It gives 13 maps and one for each channel of the image: 16 for RGB.
- Weights are drawn as Torch's layers drew them by themselves, as the code has nothing else.
"""

from torch import Tensor, nn

from ..layers import Concat, chain, initialise_torch
from ..paper import Network, Paper, Published, Recipe

PAPER = Paper(
    "ENet: A Deep Neural Network Architecture for Real-Time Semantic Segmentation",
    "Adam Paszke, Abhishek Chaurasia, Sangpil Kim, Eugenio Culurciello",
    2016,
    "https://arxiv.org/abs/1606.02147",
)

# ---- Table 1 --------------------------------------------------------------------------------------------------------

FILTERS = 13  # of the initial block's convolution
REGULAR = ("regular",) * 4  # bottleneck1.1 to 1.4
SECTION = (  # bottleneck2.1 to 2.8, and 3.1 to 3.8
    "regular",
    "dilated 2",
    "asymmetric 5",
    "dilated 4",
    "regular",
    "dilated 8",
    "asymmetric 5",
    "dilated 16",
)
EARLY, LATE = 0.01, 0.1  # dropout before bottleneck2.0 and from there on
EPS = 1e-3

# ---- Blocks ---------------------------------------------------------------------------------------------------------


def normalised(width: int) -> dict[str, nn.Module]:
    return {"bn": nn.BatchNorm2d(width, eps=EPS), "prelu": nn.PReLU(width)}


def initial(channels: int) -> nn.Sequential:
    """A 3x3 beside a pooling of the image (Figure 2a). (N,channels,H,W) -> (N,13+channels,H/2,W/2), rounded up"""
    return chain(
        concat=Concat(
            conv=nn.Conv2d(channels, FILTERS, 3, 2, 1),
            pool=nn.MaxPool2d(2, 2, ceil_mode=True),
        ),
        **normalised(FILTERS + channels),
    )


def middle(width: int, kind: str) -> dict[str, nn.Module]:
    """A bottleneck's middle convolution: "regular", "dilated D", "asymmetric K". (N,width,H,W) -> (N,width,H,W)"""
    name, *size = kind.split()
    if name == "asymmetric":
        k = int(size[0])
        return {
            "conv2a": nn.Conv2d(width, width, (1, k), padding=(0, k // 2), bias=False),
            "conv2b": nn.Conv2d(width, width, (k, 1), padding=(k // 2, 0)),
        }
    dilation = int(size[0]) if name == "dilated" else 1
    return {"conv2": nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation)}


class Widen(nn.Module):
    """Maps of zeros behind those that there are. (N,cin,H,W) -> (N,cin+more,H,W)"""

    def __init__(self, more: int):
        super().__init__()
        self.more = more

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pad(x, (0, 0, 0, 0, 0, self.more))


class Bottleneck(nn.Module):
    """prelu(body(x) + shortcut(x)) (Figure 2b). (N,cin,H,W) -> (N,cout,H,W), or half of H and W, rounded down"""

    def __init__(self, cin: int, cout: int, kind: str, dropout: float, *, downsample: bool = False):
        super().__init__()
        width, stride = cout // 4, 2 if downsample else 1
        self.body = chain(
            conv1=chain(conv=nn.Conv2d(cin, width, stride, stride, bias=False), **normalised(width)),
            conv2=chain(**middle(width, kind), **normalised(width)),
            conv3=chain(conv=nn.Conv2d(width, cout, 1, bias=False), bn=nn.BatchNorm2d(cout, eps=EPS)),
            dropout=nn.Dropout2d(dropout),
        )
        self.shortcut = chain(pool=nn.MaxPool2d(2), widen=Widen(cout - cin)) if downsample else nn.Identity()
        self.prelu = nn.PReLU(cout)

    def forward(self, x: Tensor) -> Tensor:
        return self.prelu(self.body(x) + self.shortcut(x))


# ---- The network ----------------------------------------------------------------------------------------------------


def section(width: int, kinds: tuple[str, ...], dropout: float) -> dict[str, nn.Module]:
    """Bottlenecks of one width, numbered from 1."""
    return {str(i): Bottleneck(width, width, kind, dropout) for i, kind in enumerate(kinds, start=1)}


def enet(*, classes: int = 1000, channels: int = 3, input: tuple[int, int] = (224, 224)) -> nn.Sequential:
    """The encoder and a linear head, for images of any size. (N,channels,H,W) -> (N,classes)"""
    first = {"0": Bottleneck(FILTERS + channels, 64, "regular", EARLY, downsample=True)}
    second = {"0": Bottleneck(64, 128, "regular", LATE, downsample=True)}
    return chain(
        initial=initial(channels),
        bottleneck1=chain(**first, **section(64, REGULAR, EARLY)),
        bottleneck2=chain(**second, **section(128, SECTION, LATE)),
        bottleneck3=chain(**section(128, SECTION, LATE)),
        pool=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(128, classes),
    )


ABOUT = "The segmentation network's encoder with a linear head; not the unpublished ImageNet network of Canziani et al."

NETWORKS = {
    "enet": Network(enet, initialise_torch, (3, 224, 224), 1000, "enet", ABOUT, smallest=7),
}

# ---- How it was trained ---------------------------------------------------------------------------------------------

RECIPES = {
    # The paper trains segmentation by Adam with a rate of 0.0005, a weight decay of 0.0002 and batches of 10 (section
    # 5.2). It classifies no images, so that all values but the decay are ours.
    "enet": Recipe(
        where="ours",
        dataset="ImageNet",
        epochs=90,
        batch=128,
        lr=0.1,
        momentum=0.9,
        weight_decay=2e-4,
        schedule="steps",
        drops=(30, 60, 80),
        augment=("area 0.08-1", "flip"),
        assumed=("dataset", "epochs", "batch", "lr", "momentum", "schedule", "drops", "factor", "augment"),
    ),
}

# ---- What was printed -----------------------------------------------------------------------------------------------

WHOLE = "the paper counts encoder and decoder; ours are 0.34 M of the encoder and 0.13 M of the head for 1000 classes"

PUBLISHED = [
    Published("enet", "params", "0.37e6", "Table 3", reason=WHOLE),
]
