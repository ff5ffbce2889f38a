"""What a paper says, as data: the paper, its networks, how it trained them, and the figures that it printed."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal


@dataclass(frozen=True)
class Paper:
    title: str
    authors: str
    year: int
    link: str


@dataclass(frozen=True)
class Network:
    """One named network: how to build it and what it is for.

    `build(classes=, channels=, input=(height, width))` gives the nn.Module. `about` is a sentence that says what sets
    a variant apart; "" for the paper's own network. `recipe` names the paper's recipe for it. `initialise(net)` draws
    every weight as the paper did. With no `classes` it is a module of a network: feature maps in, feature maps out.
    """

    build: Callable[..., Any]
    initialise: Callable[[Any], None]
    input: tuple[int, int, int] = (3, 224, 224)  # channels, height, width
    classes: int = 1000
    recipe: str = ""
    about: str = ""
    smallest: int = 1  # height and width below which the network's maps vanish
    foreign: "Foreign | None" = None  # whose published weights fit it


@dataclass(frozen=True)
class Foreign:
    """A library's own network of the same layers, whose weights go in and out under its own names.

    `rules` are pairs for re.sub, applied in order to each of our names: the result is theirs. A difference that is left
    in it is worked out, since we count from 1 and they from 0: "layer3-1.2-1.conv1" is "layer2.1.conv1".
    """

    library: Literal["torchvision", "timm"]
    name: str  # as `torchvision.models.get_model` and `timm.create_model` know it
    rules: tuple[tuple[str, str], ...]

    def their_name(self, ours: str) -> str:
        for pattern, replacement in self.rules:
            ours = re.sub(pattern, replacement, ours)
        return re.sub(r"(\d+)-(\d+)", lambda found: str(int(found[1]) - int(found[2])), ours)


@dataclass(frozen=True)
class Recipe:
    """How a network is trained. The fields that the paper leaves open, or that are ours, stand in `assumed`.

    The length is given in the paper's own unit, `epochs` or `iterations`; `drops`, `every` and `warm_up` count in the
    same unit.
    """

    where: str = ""  # the paper's section, or "ours"
    dataset: str = ""  # what the paper trained on
    # ---- Length and batch
    epochs: float | None = None  # how often each training image is used
    iterations: int | None = None  # updates
    batch: int = 128  # images of one update
    parts: int = 1  # that a batch is worked off in, gradients added up; batch norm sees one part at a time
    # ---- The update
    optimiser: Literal["sgd", "nesterov", "rmsprop", "adamw"] = "sgd"  # nesterov: sgd with Nesterov's momentum
    lr: float = 0.1  # the learning rate
    momentum: float = 0.9  # of the velocity; adamw: of the mean of gradients (beta 1)
    decay: float = 0.9  # rmsprop and adamw: of the mean of squared gradients (alpha; beta 2)
    epsilon: float = 1e-8  # rmsprop: added under the root of that mean; adamw: to the root (eps)
    weight_decay: float = 0.0  # times the weights, added to the gradient; adamw: apart from it
    decayed: Literal["all", "weights"] = "all"  # "weights": neither biases nor batch norm's scales and shifts
    bias_lr: float = 1.0  # biases learn so many times as fast (Caffe's lr_mult, 2 in its models)
    clip: float | None = None  # largest norm of the whole gradient
    # ---- The rate over time
    # how the rate falls; a warm-up covers the first steps of it
    schedule: Literal["constant", "steps", "plateau", "polynomial", "exponential", "cosine"] = "constant"
    drops: tuple[float, ...] = ()  # steps: when the rate is multiplied by `factor`
    factor: float = 0.1  # steps, plateau, exponential
    patience: int = 5  # plateau: epochs without a better error before a drop
    watch: Literal["validation", "training"] = "validation"  # plateau: whose error
    every: float = 1.0  # exponential: the rate is multiplied by `factor` each time so much has passed
    power: float = 1.0  # polynomial: rate x (1 - share of the training done)^power
    warm_up: float = 0.0  # how long the rate is another one at first, at most
    warm_up_lr: float | None = None  # constant; None: it rises from nothing in equal steps
    warm_up_error: float | None = None  # the warm-up ends when the training error is below this share of one
    # ---- What keeps it from learning by heart
    dropout: float | None = None  # of every dropout layer; None: the network's own
    label_smoothing: float = 0.0  # share of the target that all classes get alike
    head_weight: float | None = None  # of each auxiliary head's loss; None: the network's own
    balance: Literal["none", "weights", "sampler"] = "none"  # of uneven classes: in the loss, or in what is drawn
    # ---- What is kept of it
    average: float = 0.0  # decay of the running average of the weights that is evaluated and kept; 0: the weights
    statistics: int = 0  # training images from which batch norm's statistics are taken anew at the end; 0: as they ran
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"  # of the arithmetic; weights and sums stay fp32
    # ---- From given weights
    freeze: tuple[str, ...] = ()  # layers that do not learn: "conv1", "conv1..conv4"
    layer_lr: tuple[str, ...] = ()  # "conv1..conv4=0.1": these layers learn so many times as fast
    # ---- Images
    augment: tuple[str, ...] = ()  # random changes of the training images, in order; docs/data.md has the names
    size: int | None = None  # height and width of the input; None: the network's own
    fit: Literal["crop", "pad", "stretch"] = "crop"  # how an image is brought to that size
    crop: float = 0.875  # share of the shorter side that the centre crop keeps at the test (224 of 256)
    whiten: Literal["none", "gcn", "zca"] = "none"  # contrast of each image normalised; and pixels decorrelated
    view: str = "center"  # how the paper tests; docs/data.md has the names
    validation: float = 0.1  # share of the training images held out where the data has no validation split
    assumed: tuple[str, ...] = ()  # fields that the paper leaves open, or that are ours


@dataclass(frozen=True)
class Published:
    """One figure or statement that a paper, a library or the lecture printed.

    `printed` is the figure as it stands there, in base units: "3.8e9" was printed as 3.8 x 10^9, so its last place is
    0.1e9. `metric` says what it is; claims.COMPUTED lists those that are computed here. `layer`
    limits it to the operations under one module path. With `versus` it is this network's value divided by that one's.
    `reason` says why our figure differs. Where nothing can be computed, `differs` says that other sources contradict
    it, for the reason given; a "statement" is a sentence, and its reason says what supports or contradicts it.
    """

    network: str
    metric: str
    printed: str
    source: str
    layer: str = ""
    protocol: str = ""
    reason: str = ""
    versus: str = ""
    differs: bool = False

    @property
    def value(self) -> float:
        return float(Decimal(self.printed))

    @property
    def half(self) -> float:
        """Half a unit of the last printed place: what rounding may hide."""
        exponent = Decimal(self.printed).as_tuple().exponent
        return 0.5 * 10.0 ** int(exponent)
