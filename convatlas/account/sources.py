"""Rules for what makes tensors, asks about them, or needs their values. Random functions draw nothing."""

from typing import Any

import torch
from torch import Tensor

from ..errors import BadInput
from ..units import shape as times
from .shape import ShapeTensor, dims, new
from .walk import NeedsValues, Rule, Walk, one_line

# They read values; on real tensors of the network (buffers, parameters) that is harmless and answered.
VALUES = """
item tolist numpy __bool__ __int__ __float__ __index__ __complex__ __array__ __contains__ nonzero argwhere
masked_select unique unique_consecutive is_nonzero equal allclose bincount data_ptr storage untyped_storage __dlpack__
_unique2 _unique histc
"""
# They read what a shape has as well.
QUESTIONS = """
size dim ndimension numel nelement stride is_contiguous is_floating_point is_complex is_signed element_size get_device
storage_offset is_same_size is_pinned is_shared is_inference is_conj is_neg is_distributed is_tensor __len__ __hash__
__dir__ has_names _is_view result_type can_cast
"""
# No tensor goes in, or only as a pattern; they run on the meta device.
MAKERS = """
zeros ones empty full arange range linspace logspace eye tensor as_tensor scalar_tensor rand randn randint normal
empty_strided zeros_like ones_like empty_like full_like rand_like randn_like randint_like new_zeros new_ones new_empty
new_full new_tensor hann_window hamming_window blackman_window kaiser_window tril_indices triu_indices
"""


def reading(name: str, func: Any) -> Rule:
    def rule(walk: Walk, *args: Any, **kwargs: Any) -> Any:
        if any(type(a) is ShapeTensor for a in (*args, *kwargs.values())):
            walk.op = name.strip("_")
            raise NeedsValues
        with torch._C.DisableTorchFunction():
            return func(*args, **kwargs)

    return rule


def asking(name: str, func: Any) -> Rule:
    """Answered by the tensor itself, which has a shape, strides, a type and a device."""

    def rule(walk: Walk, *args: Any, **kwargs: Any) -> Any:
        with torch._C.DisableTorchFunction():
            return func(*args, **kwargs)

    return rule


def making(name: str, func: Any) -> Rule:
    def rule(walk: Walk, *args: Any, **kwargs: Any) -> Any:
        place = kwargs.pop("device", None)
        kwargs.pop("generator", None)
        kwargs.pop("pin_memory", None)
        tensors = [a for a in args if isinstance(a, Tensor)]
        if place is None:
            place = tensors[0].device if tensors else torch.get_default_device()
        metas = [torch.empty(dims(a), dtype=a.dtype, device="meta") if isinstance(a, Tensor) else a for a in args]
        with torch._C.DisableTorchFunction():
            out = func(*metas, **kwargs, device="meta")
        return new(tuple(out.shape), out.dtype, torch.device(place))

    return rule


def permutation(walk: Walk, n: int, *_: Any, dtype: Any = torch.int64, **__: Any) -> ShapeTensor:
    return new((n,), dtype, torch.get_default_device())


def described(walk: Walk, input: Tensor, *_: Any, **__: Any) -> str:
    return f"tensor of {times(dims(input)) or 'one number'}"


def asserted(walk: Walk, condition: Any, message: Any = "") -> None:
    """A condition on shapes is checked; one on values cannot be."""
    if not isinstance(condition, Tensor) and not condition:
        text = one_line(str(message() if callable(message) else message))
        raise BadInput(f"at {walk.place()} (assert): {text}")


def left_alone(walk: Walk, input: Tensor, *_: Any, **__: Any) -> Tensor:
    return input


RULES: dict[str, Rule] = {
    **dict.fromkeys(("requires_grad_", "retain_grad", "share_memory_", "pin_memory", "record_stream"), left_alone),
    "randperm": permutation,
    "__repr__": described,
    "__format__": described,
    "_assert": asserted,
}
