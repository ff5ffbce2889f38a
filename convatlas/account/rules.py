"""All rules by the function that they answer for, and the names of functions that are free by the convention."""

import inspect
from types import GetSetDescriptorType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import copies, pointwise, products, recurrent, saving, sources, views, windows
from .shape import ShapeTensor
from .walk import Entry, Rule, Walk

Rules = dict[Any, Entry]
PLACES = (torch, Tensor, F, torch._C._nn, torch.special, torch.linalg, torch.functional)

# Functions that do no products of their inputs, or only move elements, and are too rare for a rule of their own.
OTHERS = """
roll rot90 fliplr flipud repeat_interleave tile gather take take_along_dim scatter scatter_add index_add index_copy
index_fill index_put masked_scatter getitem sort argsort topk kthvalue msort cummax cummin cumsum cumprod diff
count_nonzero nanmean nansum aminmax nanmedian mode quantile vstack hstack dstack column_stack tensor_split hsplit
vsplit split_with_sizes unsafe_split unsafe_chunk atleast_1d atleast_2d atleast_3d broadcast_tensors meshgrid unfold
fold im2col col2im as_strided diagonal diag diag_embed diagflat trace one_hot normalize cosine_similarity
pairwise_distance grid_sample grid_sampler affine_grid max_unpool1d max_unpool2d max_unpool3d fractional_max_pool2d
fractional_max_pool3d fractional_max_pool2d_with_indices fractional_max_pool3d_with_indices cross_entropy nll_loss
mse_loss l1_loss kl_div binary_cross_entropy binary_cross_entropy_with_logits smooth_l1_loss huber_loss gumbel_softmax
view_as_real view_as_complex real imag complex polar angle conj resolve_conj resolve_neg isin bucketize searchsorted
combinations cartesian_prod weight_norm norm_except_dim ravel positive threshold_ signbit heaviside nextafter ldexp
frexp float_power renorm log_sigmoid multi_margin_loss poisson trapz swapaxes_ t_ transpose_ squeeze_ unsqueeze_
resize_ set detach_ cuda unique_dim median nanquantile select_scatter slice_scatter diagonal_scatter as_tensor
isneginf isposinf isreal fill_diagonal fill_diagonal_ index_reduce scatter_reduce put hypot gcd lcm nan_to_num_
std_mean flatten view
"""


def build() -> tuple[Rules, frozenset[str]]:
    """Every name is looked up in torch, Tensor and torch.nn.functional; a name that a version lacks is passed over."""
    rules: Rules = {}
    counted = {**products.RULES, **recurrent.RULES}
    named = {**counted, **windows.RULES, **pointwise.RULES, **views.RULES, **copies.RULES, **sources.RULES}
    for name, rule in named.items():
        saves = saving.nothing if name in views.RULES else None if name in sources.RULES else saving.asked
        saves = recurrent.saved if name in recurrent.GATES else saving.BY_HAND.get(name, saves)
        for func in _found(name):
            rules[func] = (rule, _operation(name), saves, _names(rule))
    for names, make in (
        (sources.VALUES, sources.reading),
        (sources.QUESTIONS, sources.asking),
        (sources.MAKERS, sources.making),
    ):
        for name in names.split():
            for func in _found(name):
                rules[func] = (make(name, func), name, None, ())
    for kind in (torch._C.TensorBase, Tensor):
        for name, attribute in vars(kind).items():
            if isinstance(attribute, (GetSetDescriptorType, property)):
                getter = attribute.__get__
                rules[getter] = (views.ATTRIBUTES.get(name) or _attribute(getter), name, None, ())
                rules[attribute.__set__] = (_ignored, name, None, ())
    free = {_operation(n) for n in (set(named) - set(counted)) | set(OTHERS.split())}
    return rules, frozenset(free)


def _found(name: str) -> list[Any]:
    return [getattr(place, name) for place in PLACES if callable(getattr(place, name, None))]


def _names(rule: Rule) -> tuple[str, ...]:
    """Of the arguments that a rule takes by position, behind the walk."""
    given = list(inspect.signature(rule).parameters.values())[1:]
    return tuple(p.name for p in given if p.kind is p.POSITIONAL_OR_KEYWORD)


def _operation(name: str) -> str:
    """add for add, add_, __add__, __iadd__ and __radd__."""
    bare = name.strip("_")
    if name.startswith("__") and bare[:1] in ("i", "r") and bare[1:] in dict(pointwise.EVERY):
        bare = bare[1:]
    return {"truediv": "div", "true_divide": "div", "divide": "div", "multiply": "mul", "subtract": "sub"}.get(
        bare, bare
    )


def _attribute(getter: Any) -> Rule:
    """Attributes of parameters and buffers, and those that a shape has as well, are read as they are."""

    def rule(walk: Walk, owner: Any, *_: Any) -> Any:
        with torch._C.DisableTorchFunction():
            return getter(owner)

    return rule


def _ignored(walk: Walk, owner: Any, value: Any = None, *_: Any) -> None:
    """Setting requires_grad, grad or data would touch the network; only a shape may be written."""
    if type(owner) is ShapeTensor and isinstance(value, ShapeTensor):
        owner.dims, owner.kind, owner.steps, owner.field, owner.fed = (
            value.dims,
            value.kind,
            value.steps,
            value.field,
            value.fed,
        )


RULES, FREE = build()
