"""Layers chosen by name: which parameters learn, how fast, and with which decay.

A selection is "conv1" (that module and all below it), "conv1..conv4" (all between two modules in the network's order,
both ends included), or a pattern such as "conv*" or "*.bn", whose * stands for any text, dots too.
"""

import re
from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Any

from torch import nn

from ...errors import BadRecipe, UnknownName
from ...layers import WithHeads
from ...paper import Recipe

STATISTICS = nn.modules.batchnorm._NormBase  # batch and instance normalisation, which may keep running statistics
NORMS = (STATISTICS, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def chosen(net: nn.Module, selections: Sequence[str]) -> list[str]:
    """The names of the parameters that the selections take in, in the network's order, each once.

    Auxiliary heads are in a range only where they are its ends, since they are no part of the way to the logits. Raises
    UnknownName for a layer that the network has not, BadRecipe for a range without an end or one that runs backwards,
    and for a selection that holds no parameters.
    """
    covered = set[str]().union(*(_covered(net, selection) for selection in selections))
    shared = {id(p) for name, p in net.named_parameters(remove_duplicate=False) if name in covered}
    return [name for name, p in net.named_parameters() if id(p) in shared]


def frozen(net: nn.Module, selections: Sequence[str]) -> list[str]:
    """The names of the parameters that do not learn. Raises as `chosen` does, and BadRecipe where nothing is left."""
    names = chosen(net, selections)
    if names and len(names) == len(list(net.parameters())):
        raise BadRecipe(f"freeze={','.join(selections)} takes every layer; leave at least the last one to learn")
    return names


def frozen_norms(net: nn.Module, selections: Sequence[str]) -> list[str]:
    """The normalisation layers whose running statistics stay: they are frozen themselves, or all that they learn is."""
    covered = set[str]().union(*(_covered(net, selection) for selection in selections))
    found = []
    for path, module in net.named_modules():
        if isinstance(module, STATISTICS) and module.track_running_stats:
            own = [_below(path, name) for name, _ in module.named_parameters()]
            if path in covered or (own and covered.issuperset(own)):
                found.append(path)
    return found


def freeze(net: nn.Module, recipe: Recipe) -> None:
    """Takes the recipe's frozen layers out of the training: their parameters ask for no gradient.

    Their normalisation uses and keeps the running statistics it has, for which `hold` is called again after each
    `net.train()`. Dropout in them stays as it is. Raises as `frozen` does.
    """
    names = set(frozen(net, recipe.freeze))
    for name, parameter in net.named_parameters():
        if name in names:
            parameter.requires_grad_(False)
    hold(net, recipe)


def hold(net: nn.Module, recipe: Recipe) -> None:
    """Puts the normalisation of frozen layers in evaluation mode, out of which `net.train()` takes it."""
    if recipe.freeze:
        for path in frozen_norms(net, recipe.freeze):
            net.get_submodule(path).eval()


def layer_rates(net: nn.Module, layer_lr: Sequence[str]) -> dict[str, float]:
    """How many times as fast parameters learn, by name, from texts such as "conv1..conv4=0.1"; others as they were.

    Raises BadRecipe for a text without a number above 0 and for a layer in two of them; UnknownName as `chosen` does.
    """
    rates: dict[str, float] = {}
    by: dict[str, str] = {}
    for text in layer_lr:
        selection, equals, number = (part.strip() for part in text.partition("="))
        if not equals:
            raise BadRecipe(f"layer_lr {text!r} has no number; write LAYERS=TIMES, for example conv1..conv4=0.1")
        rate = _number(text, number)
        for name in chosen(net, [selection]):
            if name in by:
                raise BadRecipe(f"layer_lr gives {name} two rates, {by[name]} and {text.strip()}; name a layer once")
            rates[name], by[name] = rate, text.strip()
    return rates


def _number(text: str, number: str) -> float:
    try:
        rate = float(number)
    except ValueError:
        rate = float("nan")
    if not isfinite(rate) or rate <= 0:
        raise BadRecipe(
            f"layer_lr {text!r} has no number above 0; write LAYERS=TIMES, for example conv1..conv4=0.1 "
            "(freeze keeps layers from learning)"
        )
    return rate


def parameter_groups(net: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """The parameters that learn, in as few groups for a torch optimiser as the recipe needs.

    Each has "params", "names", "weight_decay", and "lr_scale", by which the running rate is multiplied: that of
    `layer_lr` times, for biases, `bias_lr`. Batch norm's shifts are no biases there: Caffe's models, from which the
    factor comes, have none. Groups stand in the order of their first parameters. Raises as `frozen` and `layer_rates`.
    """
    still = set(frozen(net, recipe.freeze))
    rates = layer_rates(net, recipe.layer_lr)
    kinds = _kinds(net)
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    for name, parameter in net.named_parameters():
        if name in still or not parameter.requires_grad:
            continue
        scale = rates.get(name, 1.0) * (recipe.bias_lr if kinds[name] == "bias" else 1.0)
        spared = recipe.decayed == "weights" and kinds[name] != "weight"
        decay = 0.0 if spared else recipe.weight_decay
        new = {"params": [], "names": [], "lr_scale": scale, "weight_decay": decay}
        group = groups.setdefault((scale, decay), new)
        group["params"].append(parameter)
        group["names"].append(name)
    return list(groups.values())


def _kinds(net: nn.Module) -> dict[str, str]:
    """Each parameter as "bias", "norm" (a normalisation's scale or shift) or "weight"."""
    found = {}
    for name, _ in net.named_parameters():
        path, _, leaf = name.rpartition(".")
        norm = isinstance(net.get_submodule(path), NORMS)
        found[name] = "norm" if norm else "bias" if leaf == "bias" else "weight"
    return found


# ---- Selections ------------------------------------------------------------------------------------------------------


def unknown_layer(net: nn.Module, given: str) -> UnknownName:
    """What to raise for a layer that the network has not: names near it, or those at the network's top."""
    top = [name for name, _ in net.named_children()]
    inner = [path for path, _ in net.named_modules() if path]
    return UnknownName("layer", given, inner if "." in given else top, f"the network's are {', '.join(top)}")


def _covered(net: nn.Module, selection: str) -> set[str]:
    """The paths of modules and parameters in a selection. Raises as `chosen` does."""
    modules = [path for path, _ in net.named_modules(remove_duplicate=False) if path]
    parameters = [name for name, _ in net.named_parameters(remove_duplicate=False)]
    if ".." in selection:
        roots = _range(net, selection, modules)
    elif "*" in selection:
        pattern = re.compile(".*".join(map(re.escape, selection.split("*"))))
        roots = [path for path in (*modules, *parameters) if pattern.fullmatch(path)]
    else:
        roots = [path for path in (*modules, *parameters) if path == selection]
    if not roots:
        raise unknown_layer(net, selection)
    tops = set(roots)
    covered = {path for path in (*modules, *parameters) if not tops.isdisjoint(_upwards(path))}
    if covered.isdisjoint(parameters):
        learning = dict.fromkeys(name.partition(".")[0] for name in parameters)
        raise BadRecipe(f"layer {selection} has no parameters; those with some are {', '.join(learning)}")
    return covered


def _range(net: nn.Module, selection: str, modules: Sequence[str]) -> list[str]:
    """The modules from the first end to the last one within the second."""
    first, _, last = (part.strip() for part in selection.partition(".."))
    if not first or not last:
        raise BadRecipe(f"range {selection!r} lacks an end; write FIRST..LAST, for example conv1..conv4")
    for end in (first, last):
        if end not in modules:
            raise unknown_layer(net, end)
    start = modules.index(first)
    stop = max(i for i, path in enumerate(modules) if last in _upwards(path))
    if stop < start:
        raise BadRecipe(f"range {selection} runs backwards, {last} comes before {first}; write {last}..{first}")
    heads = net.heads if isinstance(net, WithHeads) else {}
    passed = set(heads) - {end.partition(".")[0] for end in (first, last)}
    inside = [path for path in modules[start : stop + 1] if path.partition(".")[0] not in passed]
    # A module that goes on after the range, such as the stage around "conv2.1..conv2.3", is not in it as a whole.
    beyond = {up for path in modules[stop + 1 :] for up in _upwards(path)}
    return [path for path in inside if path not in beyond]


def _upwards(path: str) -> Iterable[str]:
    """ "a.b.c" -> "a.b.c", "a.b", "a"."""
    while path:
        yield path
        path = path.rpartition(".")[0]


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
