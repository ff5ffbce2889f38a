"""The effective receptive field: how much of each input pixel arrives at the centre of a layer's output.

Luo, Li, Urtasun, Zemel, "Understanding the Effective Receptive Field in Deep Convolutional Neural Networks", 2016
(arXiv:1701.04128): inside the field that kernels and strides give, the gradient falls off like a Gaussian.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from . import units
from .account import account
from .account.field import report
from .account.running import standing_in
from .account.shape import ShapeTensor
from .account.untouched import untouched
from .errors import BadInput, UnknownName

Box = tuple[int, int, int, int]  # top, left, bottom, right: rows top .. bottom - 1 of the input, columns alike
MOST, ALL = 0.95, 0.9995


@dataclass(frozen=True)
class Effective:
    """`map` sums to 1; `shares[i]` is what falls within the central square of `sides[i]` pixels."""

    network: str
    layer: str
    map: np.ndarray  # (height, width) float32, a share of the gradient for each pixel
    box: Box | None  # the theoretical field, which may reach over the edge; None where the account gives none
    images: int
    sides: tuple[int, ...]
    shares: tuple[float, ...]

    @property
    def side(self) -> int:
        """The smallest central square that holds 95 % of the gradient."""
        return next(s for s, share in zip(self.sides, self.shares, strict=True) if share >= MOST)

    def as_text(self) -> str:
        size = units.shape(self.map.shape)
        if self.box is None:
            theory = "The theoretical field is not known here"
        else:
            top, left, bottom, right = self.box
            theory = (
                f"The theoretical field is {units.shape((bottom - top, right - left))}, rows {top} to {bottom - 1}, "
                f"columns {left} to {right - 1}"
            )
        lines = [
            f"{self.network}, {self.layer}, input {size}, {self.images} random images",
            f"{theory}.",
            f"The smallest square in its middle that holds {units.percent(MOST)} of the gradient "
            f"has {self.side} pixels a side.",
        ]
        share = dict(zip(self.sides, self.shares, strict=True))
        shown = [s for s in self.sides if s <= self.side or share[s - 2] < ALL]
        picked = sorted({shown[int(i)] for i in np.linspace(0, len(shown) - 1, 8)} | {self.side})
        width = len(str(picked[-1]))
        return "\n".join([*lines, "", *(f"{s:>{width}}  {units.percent(share[s]):>7}" for s in picked)])


class _Reached(Exception):
    """The layer has answered: what comes after it need not run."""


def effective_field(net: nn.Module, input: tuple[int, ...], layer: str, *, images: int = 8, seed: int = 0) -> Effective:
    """Runs random images up to a layer and averages the absolute gradient of its centre over images and channels.

    `input`: (channels, height, width). `layer`: a module's path, as in the account's table; its output must be a map
    (N,C,H,W), whose centre is row (H - 1) // 2, column (W - 1) // 2, summed over channels. A module that is called
    several times counts at its first call. Images are drawn from a normal distribution by `seed`. Weights are taken as
    they are, on the CPU; the network runs in evaluation mode and is left as it was.

    Raises UnknownName for a layer, BadInput where it gives no map, is not reached or does not depend on the input.
    """
    modules = dict(net.named_modules())
    if layer not in modules or not layer:
        raise UnknownName("layer", layer, [name for name in modules if name])
    shape = tuple(input)
    if len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape) or images < 1:
        raise BadInput(f"input {input!r}, {images} images: give (channels, height, width) and at least one image")
    with _in_evaluation(net, modules):
        box = _theory(net, shape, modules[layer], layer)
        found = np.zeros(shape[1:])
        drawn = torch.Generator().manual_seed(seed)
        for _ in range(images):
            found += _gradient(net, torch.randn((1, *shape), generator=drawn), modules[layer], layer)
    if not found.sum() > 0:
        raise BadInput(f"{layer}: the centre of its output has no gradient on these {images} images; give more images")
    found = (found / found.sum()).astype(np.float32)
    sides, shares = _shares(found, box)
    return Effective(type(net).__name__, layer, found, box, images, sides, shares)


def _gradient(net: nn.Module, x: Tensor, module: nn.Module, layer: str) -> np.ndarray:
    x.requires_grad_()
    out = _output(lambda: net(x.clone()), module, layer)  # whose first layer may work in place
    if out.dim() != 4:
        raise BadInput(
            f"{layer} gives {units.shape(tuple(out.shape))}, expected a map of 4 dimensions; take one before"
        )
    if not out.requires_grad:
        raise BadInput(f"{layer} does not depend on the input by a gradient; take another layer")
    centre = out[0, :, (out.shape[2] - 1) // 2, (out.shape[3] - 1) // 2].sum()
    (gradient,) = torch.autograd.grad(centre, x, allow_unused=True)
    if gradient is None:
        raise BadInput(f"{layer} does not depend on the input by a gradient; take another layer")
    return np.asarray(gradient[0].abs().mean(0).double().numpy())


def _output(forward: Any, module: nn.Module, layer: str) -> Tensor:
    """What the layer gives at its first call. The pass is broken off, since a later layer may work on it in place."""
    reached: list[Any] = []

    def catch(_: nn.Module, __: Any, output: Any) -> None:
        reached.append(output)
        raise _Reached

    handle = module.register_forward_hook(catch)
    try:
        forward()
    except _Reached:
        pass
    except RuntimeError as error:
        raise BadInput(f"{layer} is not reached: {str(error).splitlines()[0]}") from error
    finally:
        handle.remove()
    if not reached:
        raise BadInput(f"{layer} is not reached by the forward in evaluation mode; take another layer")
    if not isinstance(reached[0], Tensor):
        raise BadInput(f"{layer} gives a {type(reached[0]).__name__}, expected one map; take a layer inside it")
    return reached[0]


def _theory(net: nn.Module, shape: tuple[int, ...], module: nn.Module, layer: str) -> Box | None:
    """The field of the centre, from an account of the same forward."""
    seen: list[tuple[Any, ...]] = []

    def look(_: nn.Module, __: Any, output: Any) -> None:
        if isinstance(output, ShapeTensor) and not seen:
            seen.append((*report(output.field, output.dims), output.dims))

    handle = module.register_forward_hook(look)
    try:
        account(net, (1, *shape))
    finally:
        handle.remove()
    if not seen or seen[0][0] is None or len(seen[0][3]) != 4:
        return None
    field, stride, start, size = seen[0]
    begins = [
        begin + ((n - 1) // 2 * step if step is not None else 0)
        for begin, n, step in zip(start, size[2:], stride or (None, None), strict=True)
    ]
    return begins[0], begins[1], begins[0] + field[0], begins[1] + field[1]


def _shares(found: np.ndarray, box: Box | None) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Squares around the middle of the box, or of the image: of odd sides, or of even ones where the box has such."""
    height, width = found.shape
    top, left, bottom, right = box or (0, 0, height, width)
    parity = (bottom - top) % 2
    rows = np.abs(2 * np.arange(height) + 1 - top - bottom)[:, None]  # twice the distance of a pixel's middle
    columns = np.abs(2 * np.arange(width) + 1 - left - right)[None]
    needed = np.maximum(rows, columns) + 1  # the side of the square that reaches a pixel
    needed += (needed - parity) % 2
    sides = range(2 - parity, int(needed.max()) + 1, 2)
    within = np.cumsum(np.bincount(needed.ravel(), found.ravel().astype(np.float64), int(needed.max()) + 1))
    return tuple(sides), tuple(float(within[s] / within[-1]) for s in sides)


@contextmanager
def _in_evaluation(net: nn.Module, modules: dict[str, nn.Module]) -> Iterator[None]:
    """Modes, buffers, hooks and random states are afterwards what they were."""
    modes = [(m, m.training) for m in modules.values()]
    with untouched(modules.values()), standing_in(modules), torch.inference_mode(False), torch.enable_grad():
        state = random.getstate()
        try:
            net.eval()
            yield
        finally:
            random.setstate(state)
            for m, mode in modes:
                m.training = mode
