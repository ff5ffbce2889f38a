"""Convolution, addition and ReLU in one call of oneDNN, with weights packed beforehand.

PyTorch on the CPU runs a ReLU and a residual addition as passes of their own over memory, and packs a convolution's
weights anew in every call. oneDNN can do all in one; its operators are registered in PyTorch for `torch.compile`
(torch/_inductor/fx_passes/mkldnn_fusion.py calls them) and need no compiler.
"""

import operator

import torch
from torch import Tensor, fx, nn
from torch.fx.node import Argument
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata

from .folding import calls, finished, module_of

OPERATORS = ("_convolution_pointwise", "_convolution_pointwise_", "_linear_pointwise", "_reorder_convolution_weight")
RELUS = (nn.functional.relu, nn.functional.relu_, torch.relu, torch.relu_, "relu", "relu_")
ADDITIONS = (operator.add, operator.iadd, torch.add)
IN_PLACE = (operator.iadd, operator.isub, operator.imul, operator.itruediv)
FRESH = (nn.MaxPool2d, nn.AvgPool2d, nn.BatchNorm2d, nn.Conv2d)  # they write new memory and keep no view of their input


def can_fuse() -> bool:
    """Whether this build of PyTorch has oneDNN and the operators that it needs."""
    if not torch.backends.mkldnn.is_available() or not torch.backends.mkldnn.enabled:
        return False
    return all(hasattr(torch.ops.mkldnn, name) for name in OPERATORS)


class FusedConvolution(nn.Module):
    """relu(convolution(x) + other), where `other` and the ReLU may be absent. (N,cin,H,W) -> (N,cout,H',W')

    With `into`, the sum is written into the memory of `other`.
    """

    def __init__(self, layer: nn.Conv2d, size: tuple[int, ...], *, relu: bool, into: bool):
        super().__init__()
        self.padding = [layer.padding[0], layer.padding[1]]
        self.stride, self.dilation = [*layer.stride], [*layer.dilation]
        self.groups = layer.groups
        self.attribute = "relu" if relu else "none"
        self.into = into
        weight = layer.weight.detach()
        # An opaque layout that is neither saved nor moved, so it is no parameter.
        self.packed = torch.ops.mkldnn._reorder_convolution_weight(
            weight, self.padding, self.stride, self.dilation, self.groups, [*size]
        )
        self.bias = None if layer.bias is None else layer.bias.detach()

    def forward(self, x: Tensor, other: Tensor | None = None) -> Tensor:
        where = (self.packed, self.bias, self.padding, self.stride, self.dilation, self.groups)
        if other is None:
            return torch.ops.mkldnn._convolution_pointwise(x, *where, self.attribute, [], "")
        after: tuple[object, ...] = ("add", 1.0, self.attribute if self.attribute == "relu" else None, [], None)
        if self.into:
            return torch.ops.mkldnn._convolution_pointwise_.binary(other, x, *where, *after)
        return torch.ops.mkldnn._convolution_pointwise.binary(x, other, *where, *after)


class FusedLinear(nn.Module):
    """relu(x weight' + bias). (N,features) -> (N,outputs)"""

    def __init__(self, layer: nn.Linear):
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        if len(x) == 1 and x.dtype == torch.float32:  # a product with one vector, where MKL is ahead of oneDNN
            return nn.functional.linear(x, self.weight, self.bias).relu_()
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "relu", [], "")


def fuse(traced: fx.GraphModule, images: Tensor) -> fx.GraphModule:
    """Replaces convolutions, and the additions and ReLUs that follow them, by fused ones; changes `traced` itself.

    `images` (N,C,H,W) in channels_last show which sizes the layers get; other N work as well.
    """
    with torch.no_grad():
        ShapeProp(traced).propagate(images)
    count = calls(traced)
    order = {node: i for i, node in enumerate(traced.graph.nodes)}
    for node in list(traced.graph.nodes):
        layer = module_of(traced, node)
        if layer is None or count[layer] != 1 or _heard(layer):
            continue
        if type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
            _fuse_convolution(traced, node, layer, order)
        elif type(layer) is nn.Linear and len(_shape(node)) == 2 and (after := _relu_after(traced, node)):
            _put(traced, (node, after), FusedLinear(layer), node.args, order)
    return finished(traced)


def _fuse_convolution(traced: fx.GraphModule, node: fx.Node, layer: nn.Conv2d, order: dict[fx.Node, int]) -> None:
    if len(node.args) != 1 or not isinstance(node.args[0], fx.Node) or len(_shape(node)) != 4:
        return
    x = node.args[0]
    if any(user is not node and _changes_its_input(traced, user) for user in x.users):
        return  # the fused call stands later, where x may be another
    added = _addition_after(node, order)
    relu = _relu_after(traced, added or node)
    other, into = None, False
    if added is not None:
        (other,) = (a for a in added.args if a is not node and isinstance(a, fx.Node))
        into = other is not x and _is_free(traced, other, added, order)  # what it reads it cannot write over
    fused = FusedConvolution(layer, _shape(x), relu=relu is not None, into=into)
    old = tuple(n for n in (node, added, relu) if n is not None)
    _put(traced, old, fused, (x,) if other is None else (x, other), order)


def _put(
    traced: fx.GraphModule,
    old: tuple[fx.Node, ...],
    fused: nn.Module,
    args: tuple[Argument, ...],
    order: dict[fx.Node, int],
) -> None:
    """The fused module in the place of the last of the nodes that it replaces, under the first one's name."""
    name = str(old[0].target)
    traced.set_submodule(name, fused)
    with traced.graph.inserting_before(old[-1]):
        new = traced.graph.call_module(name, args)
    new.meta = old[-1].meta
    order[new] = order[old[-1]]
    old[-1].replace_all_uses_with(new)
    for each in reversed(old):
        traced.graph.erase_node(each)


def _relu_after(traced: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """The ReLU that alone uses what the node gives."""
    if len(node.users) != 1:
        return None
    (user,) = node.users
    module = module_of(traced, user)
    if module is not None:
        return user if type(module) is nn.ReLU and not _heard(module) else None
    plain = {k: v for k, v in user.kwargs.items() if k != "inplace"}
    return user if user.target in RELUS and user.args[:1] == (node,) and not plain else None


def _addition_after(node: fx.Node, order: dict[fx.Node, int]) -> fx.Node | None:
    """The sum of this node's output, used nowhere else, and of another tensor of its shape that is ready before it.

    Of two convolutions that are added, the later one thus takes the addition.
    """
    if len(node.users) != 1:
        return None
    (user,) = node.users
    if user.target not in ADDITIONS or len(user.args) != 2 or user.kwargs:
        return None
    if user.target is operator.iadd and user.args[0] is not node:
        return None  # it changes the other tensor, which may be used again
    others = [a for a in user.args if a is not node]
    if len(others) != 1 or not isinstance(others[0], fx.Node) or order[others[0]] > order[node]:
        return None
    other = others[0]
    same = other.meta.get("tensor_meta"), node.meta["tensor_meta"]
    alike = isinstance(same[0], TensorMetadata) and (same[0].shape, same[0].dtype) == (same[1].shape, same[1].dtype)
    return user if alike else None


def _is_free(traced: fx.GraphModule, other: fx.Node, added: fx.Node, order: dict[fx.Node, int]) -> bool:
    """Whether nothing needs the memory of `other` after the addition: no later node, and no view of it."""
    if not isinstance(module_of(traced, other), (FusedConvolution, *FRESH)):
        return False
    users = [user for user in other.users if user is not added]
    read_only = all(isinstance(module_of(traced, user), (FusedConvolution, *FRESH)) for user in users)
    return read_only and all(order[user] < order[added] for user in users)


def _changes_its_input(traced: fx.GraphModule, node: fx.Node) -> bool:
    module = module_of(traced, node)
    if module is not None:
        return bool(getattr(module, "inplace", False)) or getattr(module, "into", False)
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    return bool(node.kwargs.get("inplace")) or name.endswith("_") or node.target in IN_PLACE


def _shape(node: fx.Node) -> tuple[int, ...]:
    found = node.meta.get("tensor_meta")
    return tuple(found.shape) if isinstance(found, TensorMetadata) else ()


def _heard(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)
