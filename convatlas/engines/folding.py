"""Batch normalisation folded into the layer before it.

In evaluation it is y = scale x + shift per channel, with scale = weight / sqrt(running_var + eps) and
shift = bias - scale running_mean (Ioffe and Szegedy 2015, Algorithm 2, step 11). A convolution or a linear layer that
feeds nothing else takes both into its weights.
"""

import operator
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from copy import deepcopy
from itertools import pairwise

import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
LAYERS = (*CONVOLUTIONS, *TRANSPOSED, nn.Linear)
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)
HOOKS = ("_forward_hooks", "_forward_pre_hooks")  # somebody listens to what the layer gets or gives


def fold(net: nn.Module) -> nn.Module:
    """A copy with each batch normalisation folded into the layer before it, wherever that changes no answer.

    Folded is one in evaluation mode, with running statistics, that directly follows a convolution, a transposed
    convolution or a linear layer; identities and dropouts of evaluation mode may lie between. It stays where the
    layer's output is used elsewhere too, where one of the two is called twice or shares its weights, or has hooks.
    What follows what is read from the network's trace. In a network that cannot be traced, only what stands side by
    side in an nn.Sequential is folded, which must be called as a whole. A linear layer before a normalisation must
    give (N, features), not (N, length, features). The arithmetic is float64. `net` is not changed.
    """
    copied = deepcopy(net)
    traced = trace(copied)
    if traced is None:
        _fold_neighbours(copied)
        return copied
    _fold_traced(traced)
    return traced


class _Tracer(fx.Tracer):
    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)


class _Proxy(fx.Proxy):
    """Notes x += y as what it is; torch.fx takes it for x = x + y, which another name of the same tensor would miss."""

    def _in_place(self, function: Callable[..., object], other: object) -> object:
        return self.tracer.create_proxy("call_function", function, (self, other), {})

    def __iadd__(self, other: object) -> object:
        return self._in_place(operator.iadd, other)

    def __isub__(self, other: object) -> object:
        return self._in_place(operator.isub, other)

    def __imul__(self, other: object) -> object:
        return self._in_place(operator.imul, other)

    def __itruediv__(self, other: object) -> object:
        return self._in_place(operator.itruediv, other)


def trace(net: nn.Module) -> fx.GraphModule | None:
    """The network as a graph of the same modules, without the dropouts and identities of evaluation mode.

    None where its forward asks for values or sizes that a trace has not.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            traced = fx.GraphModule(net, _Tracer().trace(net), type(net).__name__)
    except Exception:  # whatever a network's own code raises when it is given a proxy
        return None
    traced.train(net.training)
    for node in list(traced.graph.nodes):
        if _does_nothing(traced, node):
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
    return finished(traced)


def finished(traced: fx.GraphModule) -> fx.GraphModule:
    """The module after its graph was changed: without what nothing uses any more."""
    traced.graph.lint()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


def module_of(traced: fx.GraphModule, node: object) -> nn.Module | None:
    """The module that a node calls, if it calls one."""
    if isinstance(node, fx.Node) and node.op == "call_module":
        return traced.get_submodule(str(node.target))
    return None


def calls(traced: fx.GraphModule) -> Counter[nn.Module]:
    """How often each module is called in a forward pass."""
    return Counter(m for node in traced.graph.nodes if (m := module_of(traced, node)) is not None)


def _does_nothing(traced: fx.GraphModule, node: fx.Node) -> bool:
    if len(node.all_input_nodes) != 1 or node.args[:1] != (node.all_input_nodes[0],) or node.kwargs.get("inplace"):
        return False
    module = module_of(traced, node)
    if module is not None:
        idle = type(module) is nn.Identity or (type(module) in DROPOUTS and not module.training)
        return idle and not _heard(module)
    return node.target is nn.functional.dropout and node.kwargs.get("training") is False


def _fold_traced(traced: fx.GraphModule) -> None:
    count, shared = calls(traced), _shared(traced)
    used_directly = {node.target for node in traced.graph.nodes if node.op == "get_attr"}
    for node in list(traced.graph.nodes):
        norm, before = module_of(traced, node), node.args[0] if node.args else None
        layer = module_of(traced, before)
        if not isinstance(before, fx.Node) or layer is None or norm is None or len(before.users) != 1:
            continue
        once = count[layer] == count[norm] == 1
        direct = any(str(name).startswith((f"{before.target}.", f"{node.target}.")) for name in used_directly)
        if once and not direct and len(node.args) == 1 and _fit(layer, norm, shared):
            _absorb(layer, norm)
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    finished(traced)


def _fold_neighbours(net: nn.Module) -> None:
    """Folds in every Sequential that runs its modules one after the other, as nn.Sequential itself does."""
    times = Counter(m for parent in net.modules() for m in parent._modules.values() if m is not None)
    shared = _shared(net)
    for parent in net.modules():
        if not isinstance(parent, nn.Sequential) or type(parent).forward is not nn.Sequential.forward:
            continue
        names = [name for name, m in parent._modules.items() if type(m) not in (nn.Identity, *DROPOUTS)]
        for name, following in pairwise(names):
            layer, norm = parent._modules[name], parent._modules[following]
            if layer is None or norm is None or times[layer] != 1 or times[norm] != 1:
                continue
            if _fit(layer, norm, shared) and not _idle_between_is_heard(parent, name, following):
                _absorb(layer, norm)
                parent._modules[following] = nn.Identity()


def _idle_between_is_heard(parent: nn.Sequential, name: str, following: str) -> bool:
    names = list(parent._modules)
    between = [parent._modules[n] for n in names[names.index(name) + 1 : names.index(following)]]
    return any(m is None or m.training or _heard(m) for m in between)


def _fit(layer: nn.Module, norm: nn.Module, shared: set[int]) -> bool:
    """Whether the two modules by themselves allow it."""
    if type(layer) not in LAYERS or type(norm) not in NORMS or layer.training or norm.training:
        return False  # a subclass, or a layer with weight normalisation, may do something else with its weights
    if _heard(layer) or _heard(norm) or any(id(p) in shared for p in (*layer.parameters(), *norm.parameters())):
        return False
    assert isinstance(norm, _BatchNorm)
    weight = operator.attrgetter("weight")(layer)
    same = _channels(layer) == norm.num_features and weight.is_floating_point()
    if not same or norm.running_mean is None or norm.running_var is None:
        return False
    scale, _ = _scale_and_shift(norm)
    return bool(scale.isfinite().all()) if scale.device.type != "meta" else True


def _channels(layer: nn.Module) -> int:
    return layer.out_features if isinstance(layer, nn.Linear) else operator.attrgetter("out_channels")(layer)


def _scale_and_shift(norm: _BatchNorm) -> tuple[Tensor, Tensor]:
    assert norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.detach().double()
    shift = -scale * norm.running_mean.double()
    if norm.bias is not None:
        shift = shift + norm.bias.detach().double()
    return scale, shift


def _absorb(layer: nn.Module, norm: nn.Module) -> None:
    assert isinstance(layer, LAYERS) and isinstance(norm, _BatchNorm)
    scale, shift = _scale_and_shift(norm)
    weight = layer.weight.detach()
    wide = weight.double()
    if isinstance(layer, TRANSPOSED):  # (cin, cout / groups, ...): the second axis counts within a group
        grouped = wide.unflatten(0, (layer.groups, -1)).transpose(1, 2)
        scaled = (grouped * scale.reshape(layer.groups, -1, *[1] * (grouped.dim() - 2))).transpose(1, 2).flatten(0, 1)
    else:
        scaled = wide * scale.reshape(-1, *[1] * (wide.dim() - 1))
    if layer.bias is not None:
        shift = shift + scale * layer.bias.detach().double()
    asked = layer.weight.requires_grad
    layer.weight = nn.Parameter(scaled.to(weight.dtype), requires_grad=asked)
    layer.bias = nn.Parameter(shift.to(weight.dtype), requires_grad=asked)


def _heard(module: nn.Module) -> bool:
    return any(getattr(module, hooks) for hooks in HOOKS)


def _shared(net: nn.Module) -> set[int]:
    """Parameters that more than one module holds."""
    holders = Counter(id(p) for p in _every_parameter(net))
    return {name for name, number in holders.items() if number > 1}


def _every_parameter(net: nn.Module) -> Iterator[nn.Parameter]:
    return (p for module in net.modules() for p in module._parameters.values() if p is not None)


def same_answers(one: Tensor, other: Tensor, tolerance: float) -> bool:
    """Whether logits agree to `tolerance` of the largest one, and hold no NaN."""
    largest = one.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
    return bool((one - other).abs().max() <= tolerance * largest)
