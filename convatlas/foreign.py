"""Weights under another library's names: recognised, and taken into our networks as far as they fit.

What may be missing or of another size is settled here, once: counters of batches, auxiliary heads, and the last layer,
which another number of classes changes. Everything else must agree, name by name and shape by shape.
"""

import contextlib
import re
import sys
from collections.abc import Collection, Iterable
from difflib import get_close_matches
from typing import Any

import torch
from torch import Tensor, nn

from . import weights
from .errors import BadCheckpoint, RunFailed, UnknownName, UsageError
from .layers import WithHeads
from .paper import Foreign
from .weights import State

# Names that torchvision's published DenseNet files still have, from before PyTorch 0.4 (densenet.py, _load_state_dict).
OLD_NAMES = ((re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.(\d)\."), r"\1\2."),)
THEIR_HEADS = re.compile(r"^aux", re.IGNORECASE)  # how every library names them: aux1, aux_logits, AuxLogits
COUNTER = "num_batches_tracked"


def take(net: nn.Module, state: State, where: str, *, classes: int, foreign: Foreign | None = None) -> str:
    """Copies weights under our own names or the other library's into a network; says in a sentence what was taken.

    `where` names their source in messages, `classes` is how many the network tells apart. The network keeps what it has
    where the weights lack a counter of batches, where an auxiliary head is missing or of another shape, and in layers
    of as many outputs as classes where the weights are for another number. Raises BadCheckpoint, before anything is
    copied, for any other difference.
    """
    own = net.state_dict()
    source, names = where, {name: name for name in own}
    if foreign is not None and _are_theirs(own, state, foreign):
        source, names = f"{foreign.library}'s {foreign.name}", {name: foreign.their_name(name) for name in own}
        state = {_modern(name): tensor for name, tensor in state.items()}
    heads = set(net.heads) if isinstance(net, WithHeads) else set()
    found = {name: state[theirs] for name, theirs in names.items() if theirs in state}
    last = {n for n, t in found.items() if _other_classes(own[n], t, classes)}
    if len({found[name].shape[0] for name in last}) > 1:
        last = set()  # not one number of classes, so it is another network
    counters = {name for name in own.keys() - found.keys() if name.endswith(COUNTER)}
    differ = {n for n in own.keys() - counters - last if n not in found or found[n].shape != own[n].shape}
    without = {_top(name) for name in differ} & heads
    kept = last | counters | {name for name in own if _top(name) in without}
    last, counters = ({name for name in each if _top(name) not in without} for each in (last, counters))
    spare = set() if heads else {n for n in state.keys() - set(names.values()) if THEIR_HEADS.match(n)}
    weights.refuse_different(
        {names[n]: t for n, t in own.items() if n not in kept},
        {n: t for n, t in state.items() if n not in spare | {names[k] for k in kept}},
        where,
    )
    with torch.no_grad():
        for name in own.keys() - kept:
            own[name].copy_(found[name])
    said = [f"{source}, {len(own) - len(kept)} of {len(own)} entries"]
    if last:
        modules = dict.fromkeys(name.rpartition(".")[0] for name in own if name in last)
        theirs = next(found[name].shape[0] for name in last)
        said.append(f"the head {_and(modules)} ({theirs} classes) was left as initialised for {classes}")
    if without:
        untaken = _and(h for h in net._modules if h in without)
        said.append(f"left as initialised, for want of weights that fit: {untaken}")
    if counters:
        said.append("it has no counters of batches, which start at 0")
    if spare:
        said.append("its auxiliary heads were passed over")
    return "; ".join(said)


def _are_theirs(own: Collection[str], state: State, foreign: Foreign) -> bool:
    """Whether more of the names are the other library's than ours."""
    given = {_modern(n) for n in state}
    return len(given & {foreign.their_name(n) for n in own}) > len(state.keys() & set(own))


def _modern(name: str) -> str:
    for pattern, replacement in OLD_NAMES:
        name = pattern.sub(replacement, name)
    return name


def _top(name: str) -> str:
    return name.partition(".")[0]


def _other_classes(ours: Tensor, theirs: Tensor, classes: int) -> bool:
    """Whether two entries differ in the number of outputs alone, and ours are the classes."""
    same = ours.dim() == theirs.dim() > 0 and ours.shape[1:] == theirs.shape[1:]
    return same and ours.shape[0] == classes != theirs.shape[0]


def _and(words: Iterable[str]) -> str:
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


# ---- torchvision's own loader ----------------------------------------------------------------------------------------


def torchvision_entry(foreign: Foreign | None, network: str, which: str, fitting: Collection[str]) -> Any:
    """torchvision's entry of published weights for a network: the named one, or its default for "".

    Raises UsageError without torchvision and for a network that it does not have (`fitting` are those that it has), and
    UnknownName for other weights.
    """
    if foreign is None or foreign.library != "torchvision":
        near = get_close_matches(network, fitting, n=3, cutoff=0.5) or sorted(fitting)
        raise UsageError(
            f"torchvision has no network with the layers of {network}, so none of its weights fit; "
            f"they fit {', '.join(near)}"
        )
    try:
        from torchvision.models import get_model_weights
    except ImportError:
        raise UsageError(
            "--weights torchvision needs torchvision, which is not installed; pip install torchvision"
        ) from None
    entries = get_model_weights(foreign.name)
    names = [entry.name for entry in entries]
    if which and which not in names:
        raise UnknownName(f"weights of torchvision's {foreign.name}", which, names)
    return entries[which] if which else entries.DEFAULT


def torchvision_state(entry: Any) -> dict[str, Tensor]:
    """The tensors of an entry, from torch's cache, or else downloaded by torchvision, which was asked for by name.

    Raises RunFailed where they cannot be fetched and BadCheckpoint where the cached file is damaged.
    """
    try:
        with contextlib.redirect_stdout(sys.stderr):  # torch says there what it downloads
            content = entry.get_state_dict(progress=sys.stderr.isatty(), check_hash=True, weights_only=True)
    except OSError as error:
        raise RunFailed(
            f"{entry.url} cannot be downloaded: {weights.one_line(error)}; "
            "download it on another machine and give --weights FILE"
        ) from None
    except Exception as error:  # whatever the reader makes of a damaged file
        raise BadCheckpoint(
            f"torchvision's {entry} is damaged in torch's cache: {weights.one_line(error)}; "
            "remove the file and try again"
        ) from None
    return weights.plain(content, f"torchvision's {entry}")
