"""One update of the weights: loss, gradients (in parts, in less precision, over processes), and what is refused."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from math import isfinite

import torch
from torch import Tensor, nn

from ...data.augment import Plan
from ...data.loader import Batch
from ...errors import NonFinite, RunFailed
from ...layers import Heads, WithHeads
from ...paper import Recipe
from ..device import is_out_of_memory, reseed
from ..processes import Processes
from ..progress import say
from ..signals import WATCHED
from . import diagnosis
from .groups import hold

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass
class Done:
    """What a step came to, over all processes."""

    loss: float | Tensor  # summed over images
    correct: float | Tensor
    images: int
    heads: Tensor  # each auxiliary head's cross entropy, summed over images
    norms: list[Tensor] = field(default_factory=list)  # of each gradient, before clipping; none where fp16 overflowed
    bad: int = 0  # files of the batch that could not be read, where there are several processes
    stop: int = 0  # a signal that some process got


@dataclass
class Stepper:
    """Makes the updates of one training. `parts` grows when memory does not suffice for a batch at once."""

    net: nn.Module
    optimiser: torch.optim.Optimizer
    recipe: Recipe
    plan: Plan
    device: torch.device
    processes: Processes
    seed: int
    classes: int
    weights: Tensor | None = None  # of classes in the loss, 1 on average over the training images
    compiled: bool = False
    parts: int = 1
    scaler: "torch.amp.GradScaler | None" = None

    def __post_init__(self) -> None:
        self.model = self.processes.together(self.net, self.device)
        if self.compiled:
            self.model = torch.compile(self.model)  # type: ignore[assignment]
        self.parameters = [p for p in self.net.parameters() if p.requires_grad]
        self.names = [n for n, p in self.net.named_parameters() if p.requires_grad]
        self.buffers = list(self.net.buffers())
        self._before: list[Tensor] = []
        self.others = list(dict.fromkeys(p.device for p in self.parameters if p.device != self._place))
        if self.recipe.precision == "fp16":
            self.scaler = torch.amp.GradScaler(self.device.type, init_scale=2.0**14)

    def step(self, batch: Batch, rate: float, number: int, epoch: int, stop: int = 0) -> Done:
        """The update after `number` finished ones. Raises NonFinite before it spoils the weights, RunFailed."""
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["lr_scale"]
        while True:
            self._before = [b.clone() for b in self.buffers]
            try:
                done, gradients = self._gradients(batch, number, stop)
                break
            except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                self._smaller(batch, error)
                self._put_back()
        if self._finite(done, gradients, batch, number, epoch):
            if self.recipe.clip is not None:
                self._clip(gradients, done.norms)
            self._update()
        else:
            done.norms = []
        self.optimiser.zero_grad(set_to_none=True)
        return done

    def _gradients(self, batch: Batch, number: int, stop: int) -> tuple[Done, list[Tensor]]:
        """Adds up the gradients of the batch's mean loss over its parts and over all processes."""
        counts = torch.tensor([len(batch.labels), len(batch.bad)], device=self.device)
        images, bad = self.processes.sum(counts).tolist() if self.processes.of > 1 else (len(batch.labels), 0)
        loss = torch.zeros((), device=self.device)
        correct = torch.zeros((), device=self.device)
        heads = torch.zeros(heads_of(self.net), device=self.device)
        cut = list(_parts(batch, self.parts))
        for i, (pixels, labels) in enumerate(cut):
            self._reseed(number, i)
            last = i + 1 == len(cut)
            with self._apart(last):
                part, right, own = self._part(pixels, labels, number)
                # DDP averages over the processes what is to be added up.
                share = part * (self.processes.of / max(images, 1))
                (self.scaler.scale(share) if self.scaler else share).backward()
            loss += part.detach()
            correct += right
            heads += own
        if self.scaler:
            self.scaler.unscale_(self.optimiser)
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norms = [norm.to(self.device) for norm in torch._foreach_norm(gradients)]  # from either of two devices
        done = Done(loss, correct, images, heads, norms, bad=bad)
        if self.processes.of > 1:
            wishes = torch.tensor([float(stop == s) for s in WATCHED], device=self.device)
            sums = self.processes.sum(torch.cat([torch.stack([loss, correct]), wishes, heads]))
            done.loss, done.correct, done.heads = sums[0], sums[1], sums[2 + len(wishes) :]
            done.stop = next((s for s, wish in zip(WATCHED, sums[2:].tolist(), strict=False) if wish), 0)
        else:
            done.stop = stop
        return done, gradients

    @property
    def _place(self) -> torch.device:
        """The device as its tensors name it: "cuda" alone is the current one."""
        return torch.empty(0, device=self.device).device

    def _reseed(self, number: int, part: int) -> None:
        """For dropout, which each device draws by itself: the halves of a network must not drop the same neurons."""
        for other, device in enumerate(self.others, 1):
            reseed(device, diagnosis.mixed(self.seed, number, self.processes.rank, part, other))
        reseed(self.device, diagnosis.mixed(self.seed, number, self.processes.rank, part))

    def _part(self, pixels: Tensor, labels: Tensor, number: int) -> tuple[Tensor, Tensor, Tensor]:
        """The summed loss of some images, how many of them were right, and each head's own."""
        labels = labels.to(self.device, non_blocking=True)
        if not len(labels):  # the other processes wait for this one's backward pass
            return self._nothing(pixels)
        pixels = pixels.to(self.device, non_blocking=True)
        targets: Tensor = labels
        if self.plan.mixing is not None:
            one_hot = nn.functional.one_hot(labels, self.classes).to(pixels.dtype)
            pixels, targets = self.plan.mixing.apply(pixels, one_hot, self.seed, number)
        with self._cast():
            given = self.model(pixels)
            logits, loss, heads = optimised(given, targets, self.recipe.label_smoothing, self.weights)
        with torch.no_grad():
            return loss, (logits.argmax(dim=1) == labels).sum(), heads.detach()

    def _nothing(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.net.eval()  # batch norm must learn nothing from it
        given = self.model(torch.zeros(2, *pixels.shape[1:], device=self.device))
        self.net.train()
        hold(self.net, self.recipe)
        logits = given if isinstance(given, Tensor) else given.logits
        none = torch.zeros((), device=self.device)
        return logits.sum() * 0, none, none

    def _apart(self, last: bool) -> AbstractContextManager[None]:
        """Gradients go over the wire once a step, with the last part."""
        if last or self.processes.of == 1:
            return nullcontext()
        return self.model.no_sync()  # type: ignore[operator]

    def _cast(self) -> AbstractContextManager[None]:
        precision = PRECISIONS[self.recipe.precision]
        return torch.autocast(self.device.type, dtype=precision, enabled=precision is not torch.float32)

    def _finite(self, done: Done, gradients: list[Tensor], batch: Batch, number: int, epoch: int) -> bool:
        """Whether the step may be made; with fp16 a scale that was too large is lowered and the step left out.

        One number a step is read from the device; only where that is not finite is every gradient looked at, since a
        norm may overflow that stands for finite numbers. All processes have the same sums and gradients.
        """
        loss = torch.as_tensor(done.loss, device=self.device)
        if isfinite(torch.stack([loss.abs(), *(n.float() for n in done.norms)]).sum().item()):
            return True
        if isfinite(loss.item()) and all(bool(torch.isfinite(g).all()) for g in gradients):
            return True
        if self.scaler and isfinite(loss.item()) and self.scaler.get_scale() > 1:
            self._update()  # leaves the weights and halves the scale
            return False
        self._put_back()  # else the statistics that this step spoilt would be blamed
        raise NonFinite(
            diagnosis.reason(self.net, batch, loss.item(), self._cast(), self.recipe, number + 1, epoch, self.device)
        )

    def _clip(self, gradients: list[Tensor], norms: list[Tensor]) -> None:
        """Scales the whole gradient down to the recipe's largest norm (Pascanu, Mikolov and Bengio 2013)."""
        assert self.recipe.clip is not None
        total = torch.linalg.vector_norm(torch.stack(norms))
        scale = (self.recipe.clip / (total + 1e-6)).clamp(max=1.0)
        for place in {g.device for g in gradients}:
            torch._foreach_mul_([g for g in gradients if g.device == place], scale.to(place))

    def _update(self) -> None:
        if self.scaler:
            self.scaler.step(self.optimiser)
            self.scaler.update()
        else:
            self.optimiser.step()

    def _put_back(self) -> None:
        """Gives batch norm the statistics that it had before this step."""
        for buffer, saved in zip(self.buffers, self._before, strict=True):
            buffer.copy_(saved)

    def _smaller(self, batch: Batch, error: BaseException) -> None:
        """Works a batch off in twice as many parts from now on. Raises RunFailed where that is not possible."""
        self.optimiser.zero_grad(set_to_none=True)
        images = -(-len(batch.labels) // self.parts)
        if images < 4 or self.processes.of > 1:  # parts of one image spoil batch norm
            raise RunFailed(
                f"out of memory on {self.device} while training with {images} images at once; start anew with a "
                "smaller input (--set size=...), or with the batch in parts (--set parts=...)"
            ) from error
        self.parts *= 2
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        say(
            f"out of memory with {images} images at once: from here on each batch of {self.recipe.batch} is worked off "
            f"in {self.parts} parts; the updates stay those of the whole batch"
        )


def _parts(batch: Batch, parts: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Equal parts of a batch; none is of one image where the batch is of more, as batch norm cannot learn from one."""
    most = max(1, min(parts, len(batch.labels) // 2))
    yield from zip(batch.images.tensor_split(most), batch.labels.tensor_split(most), strict=True)


def optimised(
    given: Tensor | Heads, targets: Tensor, smoothing: float = 0.0, weights: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """The logits of the network's last layer, the loss summed over images, and each auxiliary head's own.

    The loss is the cross entropy of the logits, and each head's by its weight. `targets` are labels (N,) or shares
    (N,classes).
    """

    def entropy(logits: Tensor) -> Tensor:
        return nn.functional.cross_entropy(
            logits.float(), targets, weight=weights, label_smoothing=smoothing, reduction="sum"
        )

    if isinstance(given, Tensor):
        return given, entropy(given), given.new_zeros(0, dtype=torch.float32)
    heads = torch.stack([entropy(logits) for logits in given.auxiliary])
    return given.logits, entropy(given.logits) + given.weight * heads.sum(), heads


def heads_of(net: nn.Module) -> int:
    """How many auxiliary classifiers answer while the network trains."""
    return len(net.heads) if isinstance(net, WithHeads) else 0


def settle(net: nn.Module, recipe: Recipe) -> None:
    """Gives a network the recipe's dropout and weight of auxiliary heads, where it says something else."""
    for module in net.modules():
        if recipe.dropout is not None and isinstance(module, nn.Dropout | nn.Dropout2d):
            module.p = recipe.dropout
    if recipe.head_weight is not None and isinstance(net, WithHeads):
        net.weight = recipe.head_weight
