"""PyTorch as it comes, as we tune it, and compiled."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..errors import BadInput, RunFailed
from ..memory.kept import kept_memory
from .folding import fold, same_answers
from .fusing import can_fuse, fuse

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
# By how much of the largest logit a tuned network may differ. In bfloat16 a value has 8 significant bits, in float16
# 11, and every layer rounds.
TOLERANCES = {"fp32": 1e-4, "bf16": 0.1, "fp16": 0.02}
TRIED = 2  # images on which a tuned network is held against the untouched one
KINDS_OF_INPUT = 64  # torch.compile falls back to eager in silence after 8 batch sizes, unless told otherwise
SEED = 0

Forward = Callable[[Tensor], Tensor]
Shape = tuple[int, int, int]


class WithTorch:
    """A copy of one network in PyTorch. `kind` is eager, torch or compile; `about` says what was done to it."""

    def __init__(self, kind: str, net: nn.Module, shape: Shape, precision: str, device: str, threads: int):
        self.device, self.threads, self.dtype = torch.device(device), threads, DTYPES[precision]
        # With one channel both layouts are the same bytes, and PyTorch takes them for contiguous.
        self.channels_last = kind != "eager" and shape[0] > 1
        self.stack = ExitStack()
        net = deepcopy(net).to(self.device)
        images = self._placed(np.random.default_rng(SEED).standard_normal((TRIED, *shape), np.float32))
        with _threads(threads):
            self.about, self.forward = self._chosen(kind, net, images, TOLERANCES[precision])
            if kind == "compile":
                self.about = f"compiled, {self.about}"
                self.forward = _compiled(self.forward)
                with _one_line("torch.compile"), _silence():
                    self._call(images)
        if kind == "torch" and self.device.type == "cpu":
            self.stack.enter_context(_Kept())
            self.about += ", memory kept between calls"

    def place(self, images: np.ndarray) -> Callable[[], Tensor]:
        return partial(self._call, self._placed(images))

    def fetch(self, answer: Any) -> np.ndarray:
        return answer.float().cpu().numpy().copy()

    def close(self) -> None:
        del self.forward
        self.stack.close()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _placed(self, images: np.ndarray) -> Tensor:
        layout = torch.channels_last if self.channels_last else torch.contiguous_format
        # A copy, so that a network that works in place does not write into the caller's array.
        return torch.from_numpy(images.copy()).to(self.device).contiguous(memory_format=layout)

    def _call(self, images: Tensor) -> Tensor:
        with _threads(self.threads), torch.inference_mode():
            answer = self.forward(images)
            if self.device.type != "cpu":
                torch.accelerator.synchronize(self.device)
            return answer

    def _chosen(self, kind: str, net: nn.Module, images: Tensor, tolerance: float) -> tuple[str, Forward]:
        """The first of the tuned copies that answers as the network itself does, and what was done to it."""
        with torch.inference_mode():
            expected = _logits(net, images)
        for about, make in self._candidates(kind, net, images):
            try:
                with torch.no_grad():
                    forward = make()
                with torch.inference_mode():
                    found = forward(images)
            except (RuntimeError, TypeError, ValueError, AssertionError):
                continue  # an operator that has no such precision or layout
            if found.shape == expected.shape and same_answers(found.float(), expected, tolerance):
                return about, forward
        if self.dtype == torch.float32:
            return "as it is", net
        return "autocast", _Autocast(net, self.dtype)

    def _candidates(self, kind: str, net: nn.Module, images: Tensor) -> Iterator[tuple[str, Callable[[], Forward]]]:
        """Ways to tune, what is expected to be the fastest first."""
        lower = partial(_lower, dtype=self.dtype)
        if kind == "eager":
            yield "as it is", lambda: lower(deepcopy(net))
            return
        layout, laid = (torch.channels_last, "channels_last") if self.channels_last else (None, "")
        normed = "batch norm folded" if any(isinstance(m, _BatchNorm) for m in net.modules()) else ""

        def laid_out(some: nn.Module) -> nn.Module:
            return some.to(memory_format=layout) if layout else some

        def fused() -> Forward:
            made = laid_out(fold(net))
            if not isinstance(made, fx.GraphModule):
                raise TypeError("a network that cannot be traced is not fused")
            _narrow(made, self.dtype)
            return _Lower(fuse(made, images.to(self.dtype)), self.dtype)

        if kind == "torch" and self.device.type == "cpu" and can_fuse():
            yield _words(laid, normed, "fused by oneDNN"), fused
        yield _words(laid, normed), lambda: lower(laid_out(fold(net)))
        yield _words(laid), lambda: lower(laid_out(deepcopy(net)))


def _words(*steps: str) -> str:
    return ", ".join(filter(None, steps)) or "as it is"


class _Lower(nn.Module):
    """A network whose weights have another precision than its input and its logits."""

    def __init__(self, net: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.net, self.dtype = net, dtype

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.to(self.dtype)).float()


class _Autocast(nn.Module):
    """Lowers where PyTorch's list of operators says so, for a network that cannot run in lower precision as a whole."""

    def __init__(self, net: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.net, self.dtype = net, dtype

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, self.dtype):
            return self.net(x).float()


def _lower(net: nn.Module, dtype: torch.dtype) -> nn.Module:
    return net if dtype == torch.float32 else _Lower(_narrow(net, dtype), dtype)


def _narrow(net: nn.Module, dtype: torch.dtype) -> nn.Module:
    """All but the statistics of normalisation, which PyTorch takes in float32 beside images of lower precision."""
    for module in net.modules():
        if not isinstance(module, _BatchNorm):
            for own in (module._parameters, module._buffers):
                for tensor in own.values():
                    if tensor is not None and tensor.is_floating_point():
                        tensor.data = tensor.data.to(dtype)
    return net


def _logits(net: nn.Module, images: Tensor) -> Tensor:
    try:
        found = net(images)
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or "memory" in str(error):
            raise
        reason = str(error).strip().splitlines()[0]
        size = "x".join(map(str, images.shape))
        raise BadInput(f"{type(net).__name__} does not take images of {size}: {reason}; give its own input") from error
    if not isinstance(found, Tensor) or found.dim() != 2 or len(found) != len(images):
        given = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
        raise BadInput(
            f"{type(net).__name__} gives {given} for {len(images)} images, but engines take networks that give logits "
            "(N, classes); call eval() and wrap what gives more"
        )
    return found.float()


def _compiled(net: Any) -> Forward:
    """Compiled anew for each batch size, with the weights as constants."""
    torch._dynamo.reset()  # another engine's code counts against the limit too
    made = torch.compile(net, dynamic=False, options={"freezing": True})

    def forward(images: Tensor) -> Tensor:
        with torch._dynamo.config.patch(recompile_limit=KINDS_OF_INPUT):
            return made(images)

    return forward


@contextmanager
def _silence() -> Iterator[None]:
    """Keeps PyTorch's build tools from telling a machine without a GPU that it has none."""
    log = logging.getLogger("torch.utils.cpp_extension")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a compiler's own errors have many classes
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RunFailed(f"{what} failed on this network: {reason}; take another engine") from error


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """PyTorch's number of threads is the process's, so it is set for a call only."""
    before = torch.get_num_threads()
    if before == number:
        yield
        return
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Kept:
    """kept_memory is the process's: it begins with the first engine that wants it and ends with the last."""

    holders: ClassVar[int] = 0
    held: ClassVar[ExitStack] = ExitStack()

    def __enter__(self) -> None:
        if not _Kept.holders:
            _Kept.held.enter_context(kept_memory())
        _Kept.holders += 1

    def __exit__(self, *_: object) -> None:
        _Kept.holders -= 1
        if not _Kept.holders:
            _Kept.held.close()
