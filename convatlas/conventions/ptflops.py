"""ptflops 0.7.5, its default backend: hooks for modules of an exact type, and functions that it exchanges for counting
ones (pytorch_engine.py, pytorch_ops.py). A module that calls such a function is counted by both."""

import sys
from dis import get_instructions, opmap
from functools import lru_cache
from math import prod
from types import CodeType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..account import Input
from ..table import Shape, Table
from .listening import Formula, Functions, Refusal, first, listen, place, shape
from .thop import RECURRENT

DIMENSIONS = (1, 2, 3)
THROUGH = tuple(m.__file__ for m in (F, torch.overrides, torch._jit_internal))  # code between a caller and the mode
CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
OF_OUTPUT = (nn.ReLU, nn.PReLU, nn.ELU, nn.LeakyReLU, nn.ReLU6, nn.GELU)
OF_INPUT = tuple(
    getattr(nn, f"{kind}Pool{n}d") for kind in ("Max", "Avg", "AdaptiveMax", "AdaptiveAvg") for n in DIMENSIONS
)
NORMALISATION = (
    *(getattr(nn, f"{kind}Norm{n}d") for kind in ("Batch", "Instance") for n in DIMENSIONS),
    nn.GroupNorm,
    nn.LayerNorm,
)
DEFORMABLE = ("torchvision.ops.deform_conv", "DeformConv2d")
TIMM_ATTENTION = ("timm.layers.attention", "Attention")
ATTENTION = (nn.MultiheadAttention, TIMM_ATTENTION)
HEARD = (
    *(*CONVOLUTIONS, *TRANSPOSED, *OF_OUTPUT, *OF_INPUT, *NORMALISATION, *ATTENTION),
    *(nn.Linear, nn.Upsample, DEFORMABLE),
)


def count(net: nn.Module, input: Input, table: Table) -> int:
    """Modules are divided by the batch and functions are not, as ptflops has it."""
    totals: dict[int, int] = {}

    def heard(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        kind = _kind(module)
        if kind in RECURRENT:
            raise Refusal(f"ptflops's count of recurrent layers is not restated, as at {place(net, module)}")
        if kind in HEARD:
            x = first("ptflops", net, module, args)
            out = shape(output[0] if isinstance(output, tuple) else output)
            ops = _attention(net, module, args) if kind is nn.MultiheadAttention else _operations(module, kind, x, out)
            totals[id(module)] = totals.get(id(module), 0) + ops

    functional = listen(net, input, heard, Functions(FORMULAS, _exchanged))
    return int(_sum(net, totals) / table.input[0][0] + functional)


def _kind(module: nn.Module) -> Any:
    """The exact type; those of other libraries by name, since nothing here imports them."""
    kind = type(module)
    named = (kind.__module__, kind.__name__)
    return named if named in (DEFORMABLE, TIMM_ATTENTION) else kind


def _sum(module: nn.Module, totals: dict[int, int]) -> int:
    """Down the tree, and not below a module that is counted itself."""
    if _kind(module) in HEARD:
        return totals.get(id(module), 0)
    return sum(_sum(m, totals) for m in module.children())


# ---- Modules ---------------------------------------------------------------------------------------------------------


def _operations(module: Any, kind: Any, x: Shape, out: Shape) -> int:
    if kind in CONVOLUTIONS or kind in TRANSPOSED or kind == DEFORMABLE:
        extra = 24 if kind == DEFORMABLE else 0  # without a mask; see its source for what the 24 are
        positions = x[0] * prod(x[2:] if kind in TRANSPOSED else out[2:])
        bias = x[0] * prod(out[1:]) if module.bias is not None else 0
        filters = module.in_channels * (module.out_channels // module.groups) + extra
        return prod(module.kernel_size) * filters * positions + bias
    if kind is nn.Linear:
        return (x[-1] * out[-1] + (out[-1] if module.bias is not None else 0)) * prod(x[:-1])
    if kind in NORMALISATION:
        return prod(x) * (2 if getattr(module, "affine", False) else 1)
    if kind in OF_INPUT:
        return prod(x)
    if kind is nn.Upsample:
        return prod(out[1:])
    if kind == TIMM_ATTENTION:
        n, heads, wide = x[1], module.num_heads, module.head_dim
        return x[0] * (n * wide * heads + heads * (2 * n * n * wide + n * n))
    return prod(out)


def _attention(net: nn.Module, module: Any, args: tuple[Any, ...]) -> int:
    if len(args) != 3:
        raise Refusal(f"ptflops stops at {place(net, module)}: its hook takes query, key and value, each by position")
    q, k, v = (shape(t) for t in args)
    length, batch = (1, q[0]) if module.batch_first else (0, q[1])
    lq, lk, lv, wide, heads = q[length], k[length], v[length], q[2], module.num_heads
    ops = lq * wide + lq * wide * wide + lk * k[2] * k[2] + lv * v[2] * v[2]
    if module.in_proj_bias is not None:
        ops += (lq + lk + lv) * wide
    ops += heads * (lq * lk * (wide // heads) + lq * lk + lq * lk * (v[2] // heads))
    return (ops + lq * v[2] * (v[2] + 1)) * batch


# ---- Functions -------------------------------------------------------------------------------------------------------


def _exchanged(func: Any) -> bool:
    """Whether the call went through an attribute that ptflops exchanges; the caller's code tells.

    F.relu is counted, but not a relu that was imported by name or stored before. x.add(y) is counted and x + y is not,
    though torch hands both on as Tensor.add.
    """
    if func not in NAMES:
        return True
    frame = sys._getframe(2)  # past the mode's own
    while frame.f_code.co_filename in THROUGH and frame.f_back is not None:
        frame = frame.f_back
    code = frame.f_code
    if func in METHODS and code.co_code[frame.f_lasti] == opmap["BINARY_OP"]:
        return False
    name = NAMES[func]
    loads = _loads(code, name)
    if len(loads) > 1:
        raise Refusal(
            f"ptflops counts some calls of {name} in {code.co_name} and not others; call all of them as F.{name}"
        )
    return loads == {"attribute"}


@lru_cache(4096)
def _loads(code: CodeType, name: str) -> frozenset[str]:
    """How code comes by what has that name: as an attribute, or by the bare name; neither where it was stored."""
    kinds = {"LOAD_ATTR": "attribute", "LOAD_METHOD": "attribute", "LOAD_GLOBAL": "name", "LOAD_NAME": "name"}
    found = (kinds.get(i.opname) for i in get_instructions(code) if i.argval == name)
    return frozenset(kind for kind in found if kind)


def _elements(out: Any, input: Tensor, *_: Any, **__: Any) -> int:
    return prod(shape(input))


def _product(out: Any, input: Tensor, other: Tensor, *_: Any, **__: Any) -> int:
    return prod(shape(input)) * shape(other)[-1]


def _added_product(out: Any, input: Tensor, a: Tensor, b: Tensor, *, beta: float = 1, alpha: float = 1) -> int:
    return prod(shape(a)) * shape(b)[-1] + (prod(shape(input)) if beta != 0 else 0)


def _meeting(out: Any, input: Any, other: Any, *_: Any, **__: Any) -> int:
    """It lines shapes up at their first dimension, not at the last."""
    a, b = (shape(t) if isinstance(t, Tensor) else None for t in (input, other))
    if a is None or b is None:
        return prod(a or b or ())
    longer, shorter = (a, b) if len(a) >= len(b) else (b, a)
    return prod(map(max, longer, (*shorter, *[1] * (len(longer) - len(shorter)))))


def _resizing(out: Any, input: Tensor, size: Any = None, scale_factor: Any = None, *_: Any, **__: Any) -> float:
    x = shape(input)
    n = len(x) - 2
    if size is not None:
        return prod(size if isinstance(size, (tuple, list)) else (size,) * n) * prod(x[:2])
    if isinstance(scale_factor, tuple) and len(scale_factor) == n:
        return prod(x) * prod(map(int, scale_factor))
    return float(prod(x) * scale_factor**n)


def _response_norm(out: Any, input: Tensor, size: int, *_: Any, **__: Any) -> int:
    """torch's own code calls mul, avg_pool, mul and add, which are exchanged."""
    n, channels, *rest = shape(input)
    return 3 * prod(shape(input)) + n * (channels + size - 1) * prod(rest)


def _multi_head(out: Any, query: Tensor, key: Tensor, value: Tensor, *args: Any, **kwargs: Any) -> int:
    """torch's own code calls bmm, softmax and bmm where the weights are wanted."""
    from ..account.products import MULTI_HEAD

    bound = MULTI_HEAD.bind(query, key, value, *args, **kwargs)
    bound.apply_defaults()
    given = bound.arguments
    if not given["need_weights"]:
        return 0
    odd = ("bias_k", "bias_v", "attn_mask", "key_padding_mask")
    if given["add_zero_attn"] or any(given[name] is not None for name in odd):
        raise Refusal("what ptflops counts of attention with a mask and its weights wanted is not restated")
    (length, batch, wide), source = shape(query), shape(key)[0]
    return batch * length * source * (2 * wide + int(given["num_heads"]))


def _unknown(out: Any, *_: Any, **__: Any) -> int:
    raise Refusal("what ptflops counts inside lp_pool and gumbel_softmax is not restated")


POOLS = {
    getattr(F, f"{kind}_pool{n}d{end}"): f"{kind}_pool{n}d"
    for kind, ends in {
        "avg": [""],
        "adaptive_avg": [""],
        "max": ["", "_with_indices"],
        "adaptive_max": ["", "_with_indices"],
    }.items()
    for n in DIMENSIONS
    for end in ends
}
ACTIVATIONS = {getattr(F, n): n for n in ("relu", "prelu", "elu", "relu6", "gelu", "silu", "softmax")}
METHODS = frozenset(getattr(Tensor, name) for name in ("add", "mul", "matmul"))
PRODUCTS = {getattr(home, n): n for home in (torch, Tensor) for n in ("matmul", "mm", "bmm")}
ADDED = {torch.addmm: "addmm", Tensor.addmm: "addmm", torch.baddbmm: "baddbmm"}
MEETING = {getattr(home, n): n for home in (torch, Tensor) for n in ("add", "mul")}
# Functions that are exchanged, by the name of the attribute; all others in FORMULAS call some that are.
NAMES: dict[Any, str] = {**POOLS, **ACTIVATIONS, **PRODUCTS, **ADDED, **MEETING, F.interpolate: "interpolate"}
FORMULAS: dict[Any, Formula] = {
    **dict.fromkeys((*POOLS, *ACTIVATIONS), _elements),
    **dict.fromkeys(PRODUCTS, _product),
    **dict.fromkeys(ADDED, _added_product),
    **dict.fromkeys(MEETING, _meeting),
    F.interpolate: _resizing,
    F.local_response_norm: _response_norm,
    F.multi_head_attention_forward: _multi_head,
    **{getattr(F, name): _unknown for name in ("lp_pool1d", "lp_pool2d", "lp_pool3d", "gumbel_softmax")},
}
