"""What a step's memory is answered with, and how it is shown. Needs no torch."""

from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Literal

from ..layout import Column, html, markdown, text
from ..record import from_json, to_json
from ..units import exact, size
from ..units import shape as times

Precision = Literal["float32", "bfloat16", "float16", "amp"]
Optimiser = Literal["sgd", "momentum", "adam"]
Shape = tuple[int, ...]
CONVENTION = (
    "a step is forward, cross-entropy, backward, optimiser step, with zero_grad(set_to_none=True) before it: gradients "
    "appear during backward; parameters, optimiser state, images and logits live throughout; torch's tensors with the "
    "CPU's copies for its convolutions (oneDNN), without Python, libraries and the allocator's rounding"
)


@dataclass(frozen=True)
class Kept:
    """What lives at the end of the forward and was made by one module: for the backward pass, or as its result."""

    path: str  # "" for the network's own forward and the loss
    each: int  # bytes an image
    fixed: int  # bytes that do not grow with the batch


@dataclass(frozen=True)
class Peak:
    """Bytes at one batch size."""

    batch: int
    input: int  # images and labels
    kept: int  # alive at the end of the forward besides what was there before
    training: int
    training_at: str  # what ran at the peak: "forward of layer1.0.conv1"
    training_tensors: int  # without the CPU's copies for convolutions: a lower bound for other devices
    inference: int  # under no_grad, in evaluation mode
    inference_at: str
    inference_tensors: int


@dataclass(frozen=True)
class Memory:
    """Bytes by what they are for, and peaks by batch size."""

    network: str
    input: tuple[Shape, ...]  # of one image
    precision: Precision
    optimiser: Optimiser | None
    weights: int
    buffers: int
    gradients: int
    optimiser_state: int
    layers: tuple[Kept, ...]
    peaks: tuple[Peak, ...]
    convention: str = CONVENTION

    def stages(self, depth: int = 1) -> tuple[Kept, ...]:
        """`layers` summed by that many names of the module path, in order of first appearance."""
        sums: dict[str, tuple[int, int]] = {}
        for layer in self.layers:
            path = ".".join(layer.path.split(".")[:depth])
            each, fixed = sums.get(path, (0, 0))
            sums[path] = each + layer.each, fixed + layer.fixed
        return tuple(Kept(path, *both) for path, both in sums.items())

    def as_json(self) -> str:
        """One line of JSON; `read_memory` reads it back."""
        return to_json(self)

    def as_text(self) -> str:
        return "\n\n".join((self._title(), *self._grids(text), self._note()))

    def as_markdown(self) -> str:
        return "\n\n".join((f"**{self._title()}**", *self._grids(markdown), self._note()))

    def as_html(self) -> str:
        return f"<h2>{escape(self._title())}</h2>{''.join(self._grids(html))}<p>{escape(self._note())}</p>"

    _repr_html_ = as_html

    def _title(self) -> str:
        shapes = " and ".join(times(s) for s in self.input)
        step = f"optimiser {self.optimiser}" if self.optimiser else "no optimiser"
        return f"Memory of {self.network}, input {shapes}, {self.precision}, {step}"

    def _grids(self, render: Callable[..., str]) -> list[str]:
        names = ("weights", "buffers", "gradients", "optimiser_state")
        whole = [[name.replace("_", " "), size(getattr(self, name)), exact(getattr(self, name))] for name in names]
        stages = [[s.path or "(network, loss)", size(s.each), size(s.fixed)] for s in self.stages()]
        total = ["total", size(sum(s.each for s in self.layers)), size(sum(s.fixed for s in self.layers))]
        peaks = [
            [p.batch, *map(size, (p.input, p.kept, p.training)), p.training_at, size(p.inference), p.inference_at]
            for p in self.peaks
        ]
        return [
            render((Column("whatever the batch"), Column("", True), Column("bytes", True)), whole),
            render((Column("kept after forward"), Column("an image", True), Column("fixed", True)), stages, total),
            render(PEAKS, peaks),
        ]

    def _note(self) -> str:
        return f"Convention: {self.convention}."


PEAKS = (
    Column("batch", True),
    Column("input", True),
    Column("kept", True),
    Column("training peak", True),
    Column("reached in"),
    Column("inference peak", True),
    Column("reached in"),
)


class Largest(int):
    """The largest batch that fits; where it is 0, `reason` says why."""

    reason: str = ""


def read_memory(source: str | bytes) -> Memory:
    """The memory that `as_json` wrote."""
    return from_json(Memory, source)
