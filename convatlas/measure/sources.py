"""What can be measured: a catalogue network with random weights, a run folder, a bundle."""

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from .. import classifier
from ..account import account
from ..data import Preprocess
from ..errors import UnknownName
from ..layers import drop_heads
from ..networks import NETWORKS, build

SEED = 0


@dataclass(frozen=True)
class Source:
    """A network in evaluation mode, without auxiliary heads, as it was named; `preprocess` where it travels with it."""

    given: str
    network: str
    net: nn.Module
    shape: tuple[int, int, int]
    classes: int
    weights_bytes: int
    preprocess: Preprocess | None = None


@dataclass(frozen=True)
class Facts:
    """What stays known of a source when its network has been let go."""

    given: str
    network: str
    shape: tuple[int, int, int]
    classes: int
    weights_bytes: int
    params: int
    macs: int  # of one image
    activation_bytes: int  # of one image, all layers together


def open_source(given: str | Path) -> Source:
    """A folder comes before a network of the same name.

    Raises UnknownName for a name that is neither, and what `classifier.load` raises.
    """
    name = str(given)
    if Path(given).exists() or name != Path(given).name:
        found = classifier.load(given)
        spec = found.spec
        return Source(
            name, spec.network, found.net, spec.input, len(spec.classes), found.weights_bytes, spec.preprocess
        )
    if name not in NETWORKS:
        raise UnknownName("network, run folder or bundle", name, NETWORKS, "`convatlas list` shows the networks")
    net = build(name, seed=SEED)
    drop_heads(net)
    net.eval()  # before it is counted too
    size = sum(t.numel() * t.element_size() for t in net.state_dict().values())
    return Source(name, name, net, NETWORKS[name].input, NETWORKS[name].classes, size)


def facts(source: Source) -> Facts:
    totals = account(source.net, source.shape, name=source.network).totals
    return Facts(
        source.given,
        source.network,
        source.shape,
        source.classes,
        source.weights_bytes,
        totals.params,
        totals.macs,
        totals.activation_bytes,
    )


def is_run(given: str | Path) -> bool:
    return (Path(given) / "checkpoints").is_dir()
