"""fvcore 0.1.5: a sum over the operators of a traced forward pass (nn/flop_count.py, nn/jit_handles.py)."""

from math import floor, prod
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..account import Input
from ..table import Table
from .listening import Formula, Functions, Refusal, listen, shape, unknown


def count(net: nn.Module, input: Input, table: Table) -> int:
    if names := unknown(table):
        raise Refusal(f"what fvcore counts of {names} is not known here; account for the rest alone")
    return int(listen(net, input, None, Functions(FORMULAS)))


def _convolution(n: int, transposed: bool = False) -> Formula:
    def formula(out: Any, input: Tensor, weight: Tensor, *args: Any, **kwargs: Any) -> int:
        padding = kwargs.get("padding", args[2] if len(args) > 2 else 0)
        if len(shape(input)) != n + 2:
            raise Refusal("what fvcore counts of a convolution without a batch is not known here; give a batch of one")
        if isinstance(padding, str):  # aten::_convolution_mode, which it has no formula for
            return 0
        moved = shape(input if transposed else out)
        return moved[0] * prod(shape(weight)) * prod(moved[2:])

    return formula


def _linear(out: Any, input: Tensor, weight: Tensor, bias: Any = None) -> int:
    return prod(shape(input)) * shape(weight)[0]


def _product(out: Any, a: Tensor, b: Tensor, **_: Any) -> int:
    if len(shape(b)) < 2:
        raise Refusal("fvcore stops at the product with a vector; give the vector a dimension of one")
    return prod(shape(a)) * shape(b)[-1]


def _added_product(out: Any, input: Any, a: Tensor, b: Tensor, **_: Any) -> int:
    return prod(shape(a)) * shape(b)[1]


def _einsum(out: Any, equation: str, *operands: Any) -> int:
    """numpy's own estimate along its best path, halved, as fvcore takes it."""
    tensors = list(operands[0]) if isinstance(operands[0], (list, tuple)) else list(operands)
    shapes = [shape(t) for t in tensors]
    known = _renamed(equation.replace(" ", ""))
    if known == "abc,abd->acd":
        return prod(shapes[0]) * shapes[-1][-1]
    if known == "abc,adc->adb":
        return prod(shapes[0]) * shapes[-1][1]
    empty = [np.broadcast_to(np.zeros(()), s) for s in shapes]
    report = np.einsum_path(known, *empty, optimize="optimal")[1]
    for line in report.split("\n"):
        if "optimized flop" in line.lower():
            return floor(float(line.split(":")[-1]) / 2)
    raise Refusal(f"fvcore stops at einsum({equation})")


def _renamed(equation: str) -> str:
    letters = list(dict.fromkeys(c for c in equation if c.isalpha()))
    return equation.translate({ord(c): 97 + i for i, c in enumerate(letters)})


def _norm(affine: Any, input: Tensor) -> int:
    return prod(shape(input)) * (4 if affine is None else 5)


def _batch_norm(out: Any, input: Tensor, mean: Any, var: Any, *args: Any, **kwargs: Any) -> int:
    weight, _, training = (*args, *(None,) * 3)[:3]
    if kwargs.get("training", training):
        return _norm(kwargs.get("weight", weight), input)
    return prod(shape(input)) * (1 if kwargs.get("weight", weight) is None else 2)


def _instance_norm(out: Any, input: Tensor, *args: Any, weight: Any = None, **_: Any) -> int:
    return _norm(args[2] if len(args) > 2 else weight, input)


def _layer_norm(out: Any, input: Tensor, over: Any, weight: Any = None, *_: Any, **__: Any) -> int:
    return _norm(weight, input)


def _pooling(out: Any, input: Tensor, *_: Any, **__: Any) -> int:
    return prod(shape(input))


def _resizing(
    out: Any, input: Tensor, size: Any = None, scale: Any = None, mode: str = "nearest", *args: Any, **kwargs: Any
) -> int:
    antialias = kwargs.get("antialias", args[2] if len(args) > 2 else False)
    if len(shape(input)) != 4 or antialias:
        return 0
    return prod(shape(out)) * {"nearest": 1, "bilinear": 4}.get(mode, 0)


def _sampling(out: Any, *_: Any, **__: Any) -> int:
    return 4 * prod(shape(out))


def _multi_head(out: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> int:
    """Projections; the products of attention only where the weights are wanted, since else they are one operator."""
    from ..account.products import MULTI_HEAD

    bound = MULTI_HEAD.bind(query, key, value, *args, **kwargs)
    bound.apply_defaults()
    given = bound.arguments
    (length, batch, wide), source = shape(query), shape(key)[0]
    if given["bias_k"] is not None or given["add_zero_attn"]:
        raise Refusal("what fvcore counts of attention with an added key is not known here")
    total = prod(shape(query)) * wide + prod(shape(key)) * wide + prod(shape(value)) * wide
    total += length * batch * wide * wide
    if given["need_weights"]:
        masked = given["attn_mask"] is not None or given["key_padding_mask"] is not None  # baddbmm has no formula
        total += (1 if masked else 2) * length * batch * wide * source
    return total


FORMULAS: dict[Any, Formula] = {
    **{getattr(F, f"conv{n}d"): _convolution(n) for n in (1, 2, 3)},
    **{getattr(F, f"conv_transpose{n}d"): _convolution(n, True) for n in (1, 2, 3)},
    F.linear: _linear,
    **{getattr(place, name): _product for place in (torch, Tensor) for name in ("matmul", "mm", "bmm")},
    **{place.addmm: _added_product for place in (torch, Tensor)},
    torch.einsum: _einsum,
    F.batch_norm: _batch_norm,
    F.instance_norm: _instance_norm,
    F.layer_norm: _layer_norm,
    F.group_norm: _layer_norm,
    F.adaptive_avg_pool2d: _pooling,
    F.interpolate: _resizing,
    F.grid_sample: _sampling,
    F.multi_head_attention_forward: _multi_head,
}
