"""What autograd keeps, by torch's own hooks: the other side of every comparison of saved bytes."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

Kept = Callable[..., int]


@pytest.fixture(scope="session")
def kept_by_autograd() -> Kept:
    return _kept_by_autograd


def _kept_by_autograd(net: nn.Module, *inputs: Tensor) -> int:
    """Bytes of all storages that the forward saves, each once, those of parameters left out. All are held until the
    end, or the memory of one could be given to the next and pass for the same."""
    saved: dict[int, Any] = {}

    def pack(t: Tensor) -> Tensor:
        storage = t.untyped_storage()
        saved.setdefault(storage._cdata, storage)
        return t

    with torch.enable_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        result = net(*inputs)
    owned = {p.untyped_storage()._cdata for p in net.parameters()}
    total = sum(s.nbytes() for place, s in saved.items() if place not in owned)
    del result
    return total
