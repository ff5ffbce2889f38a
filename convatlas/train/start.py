"""The weights that a training starts from: a file, or torchvision's published ones; read the same way on a resume."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from .. import files, foreign, weights
from ..errors import BadCheckpoint, UsageError
from ..networks import NETWORKS
from .progress import say
from .run import RunConfig, Start

TORCHVISION = "torchvision"


def read(network: str, given: str | Path) -> tuple[Start, dict[str, Tensor]]:
    """`given` is a file, "torchvision" (its default weights) or "torchvision:NAME".

    Raises BadCheckpoint, and for torchvision's UsageError, UnknownName and RunFailed; see `foreign`.
    """
    if not _of_torchvision(given):
        file = Path(given)
        return Start(str(file.resolve()), _digest(file)), weights.read_foreign(file)
    entry = _entry(network, given)
    state = foreign.torchvision_state(entry)
    return Start(f"{TORCHVISION}:{entry.name}", weights.digest(state)), state


def read_again(run: Path, config: RunConfig, start: Start) -> dict[str, Tensor]:
    """The same tensors for a run that has no checkpoint yet. Raises BadCheckpoint where they are others by now."""
    here, state = read(config.spec.network, start.path)
    if here.sha256 != start.sha256:
        raise BadCheckpoint(f"{start.path} has changed since {run} was started from it; put it back")
    return state


def fill(net: nn.Module, state: dict[str, Tensor], config: RunConfig, start: Start) -> None:
    """Copies the weights as far as they fit, and says what was taken. Raises BadCheckpoint for another network's."""
    network = NETWORKS[config.spec.network]
    taken = foreign.take(net, state, start.path, classes=len(config.spec.classes), foreign=network.foreign)
    say(f"weights: {taken}")


def refuse_other(run: Path, config: RunConfig, given: str | Path | None) -> None:
    """Raises UsageError where a resumed run is given other weights than it was started from."""
    start = config.start
    if given is None:
        return
    if start is not None and _of_torchvision(given) and _entry(config.spec.network, given).name == _name(start.path):
        return
    if start is not None and not _of_torchvision(given) and start.sha256 == _digest(Path(given)):
        return
    before = "fresh weights" if start is None else start.path
    raise UsageError(f"{run} was started from {before}, not from {given}; leave --weights out to resume it")


def _of_torchvision(given: str | Path) -> bool:
    return str(given).partition(":")[0] == TORCHVISION


def _name(given: str | Path) -> str:
    return str(given).partition(":")[2]


def _entry(network: str, given: str | Path) -> Any:
    fitting = [n for n, known in NETWORKS.items() if known.foreign and known.foreign.library == TORCHVISION]
    return foreign.torchvision_entry(NETWORKS[network].foreign, network, _name(given), fitting)


def _digest(file: Path) -> str:
    try:
        return files.sha256(file)
    except OSError as error:
        raise BadCheckpoint(
            f"{file} cannot be read: {(error.strerror or str(error)).lower()}; give a weights file"
        ) from None
