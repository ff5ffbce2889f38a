"""What comes and goes while torch runs: live bytes after each operation, on tensors without memory."""

import weakref
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .copies import Convolution, convolution_of, copies


class Entry(NamedTuple):
    place: str
    live: int  # bytes after the operation's results came
    made: int  # bytes of the results
    convolution: Convolution | None

    def bytes(self) -> int:
        extra = copies(self.convolution) if self.convolution else 0
        return max(self.live, self.live - self.made + extra)


class Tape(TorchDispatchMode):
    """Writes down the live bytes after each operation that makes a tensor, and by which module it was made."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[Entry] = []
        self.owners: dict[int, tuple[str, int]] = {}
        self.alive: dict[int, Any] = {}
        self.live = self.given = 0
        self.end: dict[str, int] = {}  # bytes alive at the end of the forward, by the module that made them
        self.stack, self.order, self.places = [""], [-1], [""]
        self.backward = False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if self.backward and func is torch.ops.aten.add.Tensor:
            out = _accumulated(func, args, kwargs or {})
        else:
            out = func(*args, **(kwargs or {}))
        if not self.backward and torch.is_grad_enabled() and self.places[-1] != self.stack[-1]:
            self.order.append(torch.autograd._get_sequence_nr() - 1)  # type: ignore[attr-defined]
            self.places.append(self.stack[-1])
        made = sum(self.see(t) for t in tree_leaves(out) if isinstance(t, Tensor))
        if made:
            self.write(self.place(), made, convolution_of(func, args, out))
        return out

    def see(self, t: Tensor) -> int:
        """Bytes of its memory, where they are new."""
        memory = t.untyped_storage()
        key, count = memory._cdata, memory.nbytes()
        if key in self.alive:
            return 0

        def gone(_: object) -> None:
            self.live -= count
            del self.alive[key], self.owners[key]

        self.alive[key] = weakref.ref(memory, gone)
        self.owners[key] = self.stack[-1], count
        self.live += count
        return count

    def give(self, tensors: Iterable[Tensor]) -> None:
        """What was there before."""
        for t in tensors:
            self.see(t)
        self.given = self.live
        self.owners = dict.fromkeys(self.owners, ("", 0))
        self.write("input")

    def write(self, place: str, made: int = 0, convolution: Convolution | None = None, more: int = 0) -> None:
        self.entries.append(Entry(place, self.live + more, made, convolution))

    def place(self) -> str:
        if not self.backward:
            return f"forward of {self.stack[-1] or 'the network'}"
        node = torch._C._current_autograd_node()
        number = node._sequence_nr() if node is not None else 0
        return f"backward of {self.places[bisect_right(self.order, number) - 1] or 'the network'}"

    def peak(self) -> tuple[int, str, int]:
        """Bytes, where they are reached, and bytes without the copies for convolutions."""
        top = max(self.entries, key=Entry.bytes)
        return top.bytes(), top.place, max(e.live for e in self.entries)

    def kept(self) -> dict[str, int]:
        sums: dict[str, int] = {}
        for path, count in self.owners.values():
            sums[path] = sums.get(path, 0) + count
        return sums


FRESH = 4, 2  # uses of a tensor and of its memory, seen from a dispatch mode, where only autograd's sum holds it


def _accumulated(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Autograd adds gradients of one tensor in place where nobody else holds one of them, but never under a mode."""
    if len(args) == 2 and not kwargs and all(isinstance(t, Tensor) for t in args):
        for t, other in (args, args[::-1]):
            memory = t.untyped_storage()
            uses = t._use_count(), torch._C._storage_Use_Count(memory._cdata)
            if uses == FRESH and memory.nbytes() == t.numel() * t.element_size() and t.dtype is other.dtype:
                return t.add_(other)
    return func(*args, **kwargs)
