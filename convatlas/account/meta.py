"""Torch's own answers on meta tensors: shapes, layouts, and what autograd saves for the backward pass."""

from collections.abc import Callable, Iterable, Sequence
from types import FunctionType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .shape import ShapeTensor

Metas = dict[int, tuple[ShapeTensor, Tensor]]
_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


def run(
    func: Any, args: Sequence[Any], kwargs: dict[str, Any], node: Callable[[Tensor], ShapeTensor], metas: Metas
) -> tuple[Any, list[Any]]:
    """The result on meta tensors, which are left in `metas` by their shapes, and the storages that autograd saved.

    A tensor that wants a gradient is a clone of a leaf, since leaves cannot be overwritten.
    """
    saved: list[Any] = []

    def swap(thing: Any) -> Any:
        if isinstance(thing, torch.device):
            return torch.device("meta")
        if not isinstance(thing, Tensor):
            return thing
        x = node(thing)
        if id(x) not in metas:
            metas[id(x)] = x, _meta(x)
        return metas[id(x)][1]

    def pack(t: Tensor) -> Tensor:
        saved.append(t.untyped_storage())
        return t

    with torch._C.DisableTorchFunction():
        args, kwargs = swapped(tuple(args), swap), swapped(kwargs, swap)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            result = AS_ON_CPU.get(func, func)(*args, **kwargs)
    return result, saved


def _meta(x: ShapeTensor) -> Tensor:
    if x.steps is None:
        meta = torch.empty(x.dims, dtype=x.kind, device="meta")
    else:
        meta = torch.empty_strided(x.dims, x.steps, dtype=x.kind, device="meta")
    if not x.needs:
        return meta
    with torch.enable_grad():
        copy: Tensor = (_Copy.apply if x.steps else torch.clone)(meta.requires_grad_())
    return copy


class _Copy(torch.autograd.Function):
    """A copy in any layout; a clone keeps dense ones only."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return grad


def attention_on_cpu(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Scaled dot-product attention by the kernel that the CPU would take; meta tensors take the plain formula.

    Conditions of flash attention: aten/src/ATen/native/transformers/sdp_utils_cpp.cpp.
    """
    every = (query, key, value)
    fused = (
        not dropout_p
        and not enable_gqa
        and all(t.dim() == 4 and t.stride(-1) == 1 and t.is_floating_point() and 0 not in t.shape for t in every)
        and query.shape[:2] == key.shape[:2] == value.shape[:2]
        and query.shape[-1] == key.shape[-1] == value.shape[-1]
        and (attn_mask is None or (attn_mask.dim() in (2, 4) and not attn_mask.requires_grad and not is_causal))
    )
    if not fused:
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask, dropout_p, is_causal, scale=scale, enable_gqa=enable_gqa
        )
    if attn_mask is not None and attn_mask.dtype is torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype)
    out: Tensor = _flash(query, key, value, 0.0, is_causal, attn_mask=attn_mask, scale=scale)[0]
    return out


def _with_cpus_attention(function: Any) -> Any:
    """The same function, but that the name of the attention in it stands for the CPU's kernel."""
    names = {**function.__globals__, "scaled_dot_product_attention": attention_on_cpu}
    copy = FunctionType(function.__code__, names, function.__name__, function.__defaults__, function.__closure__)
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy


AS_ON_CPU = {
    F.scaled_dot_product_attention: attention_on_cpu,
    F.multi_head_attention_forward: _with_cpus_attention(F.multi_head_attention_forward),
}


def leaves(thing: Any) -> Iterable[Any]:
    if isinstance(thing, (tuple, list)):
        for part in thing:
            yield from leaves(part)
    elif isinstance(thing, dict):
        for part in thing.values():
            yield from leaves(part)
    else:
        yield thing


def swapped(thing: Any, swap: Callable[[Any], Any]) -> Any:
    """The same nest of tuples, lists and dicts with its leaves exchanged."""
    if isinstance(thing, torch.Size):
        return thing
    if isinstance(thing, (tuple, list)):
        parts = [swapped(part, swap) for part in thing]
        kind = type(thing)
        return kind(*parts) if hasattr(thing, "_fields") else kind(parts)
    if isinstance(thing, dict):
        return {key: swapped(part, swap) for key, part in thing.items()}
    return swap(thing)
