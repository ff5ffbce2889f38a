"""Where a NaN or an infinity came from, when a training was stopped for one."""

import hashlib
from contextlib import AbstractContextManager, nullcontext
from math import isfinite
from typing import Any

import torch
from torch import Tensor, nn

from ...data import Split
from ...data.loader import Batch, eval_batches
from ...layers import Heads
from ...paper import Recipe
from ..evaluating.counting import View

HALF = 65504.0  # the largest number of fp16
HUGE = 1e4  # no weight of a network that trains is beyond it


def mixed(*parts: int) -> int:
    """A seed for torch's generators that is a pure function of whole numbers. 63 bits."""
    return int.from_bytes(hashlib.sha256(" ".join(map(str, parts)).encode()).digest()[:8]) >> 1


def reason(
    net: nn.Module,
    batch: Batch,
    loss: float,
    cast: AbstractContextManager[None],
    recipe: Recipe,
    step: int,
    epoch: int,
    device: torch.device,
) -> str:
    """One line: what is not finite, in which step, where it began, the likely cause and what helps.

    The batch passes once more through the network, in the mode that it is in, to find the first layer.
    """
    weight = first_non_finite(net.state_dict().items())
    gradients = [(n, p.grad) for n, p in net.named_parameters() if p.grad is not None]
    gradient = first_non_finite(reversed(gradients))  # the backward pass begins at the end
    if weight is not None:
        what = f"{weight} is not finite, and the loss is {loss:g}"
        cause = "the weights that it started from are not finite" if step == 1 else _of_rate(net, recipe)
    elif not bool(torch.isfinite(batch.images).all()):
        what = f"the loss is {loss:g}: the images hold numbers that are not finite"
        cause = "the normalisation or an augmentation made them; look at config.json's mean and std"
    elif not isfinite(loss):
        layer, largest = _first_layer(net, batch.images.to(device), cast)
        what = f"the loss is {loss:g}" + (f", which begins at the output of {layer}" if layer else "")
        if recipe.precision == "fp16" and largest < float("inf") and layer:
            cause = f"fp16 holds no number beyond {HALF:,.0f}; use --set precision=bf16 or fp32"
        else:
            cause = _of_rate(net, recipe)
    else:
        what = f"the gradient of {gradient} is not finite"
        cause = _of_rate(net, recipe)
    return f"{what} in step {step:,} (epoch {epoch}); stopped before the weights changed; {cause}"


def of_validation(net: nn.Module, split: Split, view: View, recipe: Recipe, step: int) -> str:
    """One line for a validation loss that is not finite: after which step, and where it began."""
    training = net.training
    net.eval()
    layer = ""
    for batch in eval_batches(split, view.preprocess, batch=view.batch):
        layer, _ = _first_layer(net, batch.images.to(view.device), nullcontext())
        if layer:
            break
    net.train(training)
    begins = f", which begins at the output of {layer}" if layer else ""
    return (
        f"the validation loss is not finite after step {step:,}{begins}; no checkpoint was made of it, the last good "
        f"one is kept; {_of_rate(net, recipe)}"
    )


def _of_rate(net: nn.Module, recipe: Recipe) -> str:
    largest = max((p.detach().abs().max().item() for p in net.parameters()), default=0.0)
    grown = f", the weights have grown to {largest:.3g}" if HUGE < largest < float("inf") else ""
    return f"a rate of {recipe.lr:g} is likely too high{grown}: a smaller learning rate helps (--set lr=...)"


def _first_layer(net: nn.Module, images: Tensor, cast: AbstractContextManager[None]) -> tuple[str, float]:
    """The first layer that makes a number that is not finite of finite ones, and the largest number that it got."""
    found: list[tuple[str, float]] = []
    names = {module: name for name, module in net.named_modules()}

    def look(module: nn.Module, given: tuple[Any, ...], made: Any) -> None:
        made = made.logits if isinstance(made, Heads) else made
        if found or not isinstance(made, Tensor) or bool(torch.isfinite(made).all()):
            return
        largest = max((t.detach().abs().max().item() for t in given if isinstance(t, Tensor)), default=0.0)
        found.append((names[module] or "the network", largest))

    leaves = [m for m in net.modules() if not any(True for _ in m.children())]
    buffers = [b.clone() for b in net.buffers()]
    hooks = [m.register_forward_hook(look) for m in leaves]
    try:
        with torch.no_grad(), cast:
            net(images)
    finally:
        for hook in hooks:
            hook.remove()
        for buffer, saved in zip(net.buffers(), buffers, strict=True):
            buffer.copy_(saved)
    return found[0] if found else ("", 0.0)


def first_non_finite(tensors: Any) -> str | None:
    return next((n for n, t in tensors if t.is_floating_point() and not torch.isfinite(t).all()), None)
