"""Which section of the page each printed figure belongs to."""

from collections import defaultdict
from collections.abc import Callable

from ..claims import Claim, claims

TRAINING = ("lr", "batch", "momentum", "weight_decay")
ALEXNET_TRAINED = ("ensemble", "ReLU", "saddle", "dropout", "two GPUs")
VGG_KEPT = ("params", "weights", "values", "value_bytes", "inputs", "activations")


def _training(c: Claim, words: tuple[str, ...]) -> bool:
    return c.metric in TRAINING or any(w in c.printed for w in words)


# In the page's order; a figure stands in the first section that takes it.
PLACES: tuple[tuple[str, Callable[[Claim], bool]], ...] = (
    ("lenet", lambda c: c.network.startswith("lenet")),
    ("winners", lambda c: c.source.endswith("winners")),
    ("accuracy", lambda c: c.paper == "canziani" and c.metric in ("top1_accuracy", "statement")),
    ("power", lambda c: c.metric == "watts"),
    ("time", lambda c: c.metric == "forward_ms"),
    ("accuracy", lambda c: c.source.endswith("comparison")),
    ("alexnet-training", lambda c: c.network == "alexnet" and _training(c, ALEXNET_TRAINED)),
    ("alexnet-training", lambda c: c.network == "alexnet" and c.metric == "top5_error"),
    ("googlenet", lambda c: c.network == "alexnet" and c.metric == "params"),
    ("depth", lambda c: c.network == "alexnet" and c.metric == "depth"),
    ("alexnet", lambda c: c.network.startswith("alexnet")),
    ("zfnet", lambda c: c.network.startswith("zfnet")),
    ("field", lambda c: c.network == "three_3x3"),
    ("vgg-memory", lambda c: c.network == "vgg16" and (c.metric in VGG_KEPT or "memory" in c.printed)),
    ("depth", lambda c: c.network.startswith("vgg")),
    ("inception-naive", lambda c: c.network == "inception_naive" and not c.source.endswith("repeated")),
    ("inception-reduced", lambda c: c.network.startswith("inception_")),
    ("googlenet", lambda c: c.network == "googlenet"),
    ("degradation", lambda c: c.network == "plain56_cifar"),
    ("bottleneck", lambda c: c.network == "bottleneck_block"),
    ("resnet-training", lambda c: c.network == "resnet152" and _training(c, ("Xavier", "dropout"))),
    ("resnet-results", lambda c: c.network in ("resnet152", "resnet1202_cifar") and c.metric != "depth"),
    ("resnet", lambda c: c.network.startswith("resnet")),
    ("nin", lambda c: c.network == "nin"),
)


def placed() -> dict[str, tuple[Claim, ...]]:
    """The lecture's figures and those of the paper whose charts it shows, by section."""
    found: dict[str, list[Claim]] = defaultdict(list)
    for c in (*claims("lecture"), *claims("canziani")):
        found[next(key for key, takes in PLACES if takes(c))].append(c)
    return {key: tuple(group) for key, group in found.items()}
