"""A network and its images as a training would have them, for experiments that make steps of their own."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..catalogue import catalogue
from ..errors import BadInput, UsageError
from ..paper import Recipe
from ..record import changed

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


def recipe_of(network: str, settings: Sequence[str]) -> Recipe:
    """The network's own recipe, changed. Raises UnknownName, BadInput for a module, BadRecipe for a setting."""
    entry = catalogue().entry(network)
    if not entry.classes or not entry.recipe:
        raise BadInput(f"{network} is a module and gives feature maps, not classes; give a network that is made of it")
    return changed(catalogue().recipes[entry.recipe], settings, "recipe")


def side(network: str, recipe: Recipe) -> tuple[int, int]:
    """Height and width of the input."""
    _, height, width = catalogue().entry(network).input
    return (height, width) if recipe.size is None else (recipe.size, recipe.size)


def optimiser_of(net: "nn.Module", recipe: Recipe) -> "torch.optim.Optimizer":
    """Torch's own optimiser by a recipe, with one rate for all parameters."""
    import torch

    parameters = [p for p in net.parameters() if p.requires_grad]
    decay = recipe.weight_decay
    match recipe.optimiser:
        case "rmsprop":
            return torch.optim.RMSprop(
                parameters, recipe.lr, recipe.decay, recipe.epsilon, decay, momentum=recipe.momentum
            )
        case "adamw":
            betas = (recipe.momentum, recipe.decay)
            return torch.optim.AdamW(parameters, recipe.lr, betas, recipe.epsilon, weight_decay=decay)
    nesterov = recipe.optimiser == "nesterov"
    return torch.optim.SGD(parameters, recipe.lr, recipe.momentum, weight_decay=decay, nesterov=nesterov)


@dataclass
class Stepping:
    """A network in training and its optimiser; makes plain updates."""

    net: "nn.Module"
    recipe: Recipe
    device: "torch.device"

    def __post_init__(self) -> None:
        import torch

        self.net.to(self.device).to(memory_format=torch.channels_last)
        self.net.train()
        self.optimiser = optimiser_of(self.net, self.recipe)

    def step(self, images: "Tensor", labels: "Tensor") -> float:
        """One update by the mean loss of a batch, which is given back. (N,C,H,W), (N,)

        The loss is the training's: auxiliary heads are in it with their weight, and so is label smoothing.
        """
        import torch

        kind = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(self.recipe.precision)
        images, labels = images.to(self.device), labels.to(self.device)
        with torch.autocast(self.device.type, kind, enabled=kind is not None):
            out = self.net(images)
        loss = self._loss(out, labels)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self.recipe.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.net.parameters(), self.recipe.clip)
        self.optimiser.step()
        return float(loss.detach())

    def _loss(self, out: Any, labels: "Tensor") -> "Tensor":
        from torch.nn.functional import cross_entropy

        from ..layers import Heads

        def of(logits: "Tensor") -> "Tensor":
            return cross_entropy(logits.float(), labels, label_smoothing=self.recipe.label_smoothing)

        if not isinstance(out, Heads):
            return of(out)
        weight = out.weight if self.recipe.head_weight is None else self.recipe.head_weight
        total = of(out.logits)
        for head in out.auxiliary:
            total = total + weight * of(head)
        return total


def refuse_small(what: str, number: float, least: float) -> None:
    """Raises UsageError for an option below the least that works."""
    if not number >= least:
        raise UsageError(f"{what} {number:g} is too small; give {least:g} or more")
