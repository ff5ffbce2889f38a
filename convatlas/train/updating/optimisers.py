"""The optimisers that recipes name, from torch, and what of them a checkpoint must hold."""

import torch
from torch import Tensor, nn

from ...errors import BadCheckpoint
from ...paper import Recipe
from .groups import parameter_groups

SLOTS = ("momentum_buffer", "square_avg", "exp_avg", "exp_avg_sq", "step")


def make(net: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's optimiser over the parameters that learn, in groups with an `lr_scale` each.

    Weight decay is added to the gradient, as all these papers did; adamw's is apart from it (Loshchilov and Hutter
    2019). TensorFlow's RMSProp adds epsilon under the root and torch's adds it to the root, which for Inception's
    epsilon of 1 are different steps: here the first, as Inception's authors had it.
    """
    groups = parameter_groups(net, recipe)
    if recipe.optimiser == "rmsprop":
        return RMSProp(groups, recipe.lr, recipe.decay, recipe.epsilon, recipe.momentum)
    if recipe.optimiser == "adamw":
        return torch.optim.AdamW(groups, recipe.lr, betas=(recipe.momentum, recipe.decay), eps=recipe.epsilon)
    nesterov = recipe.optimiser == "nesterov"
    return torch.optim.SGD(groups, recipe.lr, momentum=recipe.momentum, nesterov=nesterov)


class RMSProp(torch.optim.Optimizer):
    """RMSProp as TensorFlow has it, whose epsilon stands under the root.

    s = decay s + (1 - decay) g^2;  v = momentum v + lr g / sqrt(s + epsilon);  w = w - v. s starts at 1, so that the
    first steps are not large, and the rate is in the velocity, so that a lower rate does not act on steps gone by.
    """

    def __init__(self, groups: list[dict[str, object]], lr: float, decay: float, epsilon: float, momentum: float):
        defaults = {"lr": lr, "decay": decay, "epsilon": epsilon, "momentum": momentum, "weight_decay": 0.0}
        super().__init__(groups, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            learning = [p for p in group["params"] if p.grad is not None]
            if not learning:
                continue
            for p in learning:
                if not self.state[p]:
                    self.state[p] = {"square_avg": torch.ones_like(p), "momentum_buffer": torch.zeros_like(p)}
            gradients = [p.grad for p in learning]
            if group["weight_decay"]:
                gradients = list(torch._foreach_add(gradients, learning, alpha=group["weight_decay"]))
            squares = [self.state[p]["square_avg"] for p in learning]
            velocities = [self.state[p]["momentum_buffer"] for p in learning]
            torch._foreach_mul_(squares, group["decay"])
            torch._foreach_addcmul_(squares, gradients, gradients, 1 - group["decay"])
            roots = torch._foreach_add(squares, group["epsilon"])
            torch._foreach_sqrt_(roots)
            torch._foreach_mul_(velocities, group["momentum"])
            torch._foreach_addcdiv_(velocities, gradients, roots, group["lr"])
            torch._foreach_sub_(learning, velocities)


def tensors(net: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """What the optimiser remembers, as "slot of parameter's name"."""
    found = {}
    for name, parameter in net.named_parameters():
        state = optimiser.state.get(parameter, {})
        for slot in SLOTS:
            if state.get(slot) is not None:
                found[f"{slot} of {name}"] = torch.as_tensor(state[slot])
    return found


def restore(net: nn.Module, optimiser: torch.optim.Optimizer, saved: dict[str, Tensor], where: str) -> None:
    """Puts them back, laid out in memory as their parameters are. Raises BadCheckpoint."""
    parameters = dict(net.named_parameters())
    for key, tensor in saved.items():
        slot, _, name = key.partition(" of ")
        parameter = parameters.get(name)
        fits = parameter is not None and (slot == "step" or parameter.shape == tensor.shape)
        if slot not in SLOTS or parameter is None or not fits:
            raise BadCheckpoint(f"{where} does not belong to this network: {key} {tuple(tensor.shape)} has no place")
        # torch keeps AdamW's step on the CPU, wherever the parameter is.
        here = tensor.clone() if slot == "step" else torch.empty_like(parameter).copy_(tensor)
        optimiser.state[parameter][slot] = here
