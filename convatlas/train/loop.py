"""The training loop: steps, epochs, validation, checkpoints, and stopping where nothing is lost."""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import torch
from torch import Tensor, nn

from ..data import Data
from ..data.loader import Batch, steps, train_batches
from ..errors import BadData, BadRecipe, ConvAtlasError, NonFinite, SaveFailed, Stopped
from ..layers import Heads
from ..paper import Recipe
from . import run as folder
from .checkpoint import Best, Checkpoints, State, Sums, first_non_finite, refuse_non_finite
from .device import out_of_memory, reseed
from .evaluation import Counts, View, count
from .progress import Talk
from .schedule import Schedule, length
from .signals import StopWish


@dataclass
class Training:
    """One training in this process: what it changes (net, optimiser, state) and what it needs for that."""

    run: Path
    config: folder.RunConfig
    data: Data
    net: nn.Module
    optimiser: torch.optim.Optimizer
    state: State
    checkpoints: Checkpoints
    device: torch.device
    workers: int
    save_seconds: float
    wish: StopWish

    def __post_init__(self) -> None:
        self.length = length(self.recipe, steps(len(self.data.splits["train"]), self.recipe.batch))
        self.schedule = Schedule(self.recipe, self.length.steps_per_epoch)
        self.parameters = list(self.net.parameters())
        self.sums = self._on_device(self.state.sums)
        self.begin = self.saved_at = time.monotonic()
        self.earlier = self.state.seconds
        self.speed: float | None = None  # images a second in the last epoch, without validation

    @property
    def recipe(self) -> Recipe:
        return self.config.recipe

    @property
    def finished(self) -> bool:
        return self.state.epoch * self.length.steps_per_epoch >= self.length.steps

    def go(self, bar: bool) -> None:
        """Trains to the recipe's end. Raises Stopped after a signal, NonFinite, RunFailed for want of memory."""
        try:
            with Talk(self.length, self.state.step, bar) as talk:
                while not self.finished:
                    self._train_epoch(talk)
                    self._end_epoch(talk)
                    self.obey()
        except SaveFailed as error:
            raise SaveFailed(f"{error}; {self._kept()}") from error

    # ---- Steps -------------------------------------------------------------------------------------------------------

    def _train_epoch(self, talk: Talk) -> None:
        """The running epoch's batches that are still to be used."""
        first = self.state.epoch * self.length.steps_per_epoch
        end = min(first + self.length.steps_per_epoch, self.length.steps)
        if self.state.step >= end:
            return
        self.net.train()
        begin, images = time.monotonic(), self.state.sums.images
        doing = f"training with batch {self.recipe.batch}"
        with out_of_memory(self.device, doing), _batch_norm_of_one(self.recipe.batch):
            for batch in self._batches(self.state.step - first):
                self.state.step = first + batch.position  # batches of nothing but bad files were passed over
                if self.state.step >= end:
                    break
                rate = self._step(batch)
                talk.step(self.state.step, len(batch.labels), rate, self._mean_loss)
                if self.state.step >= end:
                    break
                self.obey()
                if time.monotonic() - self.saved_at >= self.save_seconds:
                    self.save()
        self.state.step = end
        self.speed = round((self.state.sums.images - images) / (time.monotonic() - begin), 1)

    def _batches(self, start: int) -> Iterator[Batch]:
        batches = train_batches(
            self.data.splits["train"],
            self.config.spec.preprocess,
            self.recipe.augment,
            batch=self.recipe.batch,
            seed=self.config.seed,
            epoch=self.state.epoch,
            start=start,
            workers=self.workers,
        )
        try:
            yield from batches
        except BadData:  # none of the images that are left can be read; before a resume some could
            if not self.state.sums.images:
                raise

    def _step(self, batch: Batch) -> float:
        """One update; gives its learning rate."""
        state = self.state
        rate = self.schedule.rate(state.step, state.plateau)
        state.note(batch.bad)
        # Batch norm cannot normalise one image, all that bad files may leave of a batch.
        if len(batch.labels) >= min(2, self.recipe.batch):
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            reseed(self.device, mixed(self.config.seed, state.step))  # for dropout
            labels = batch.labels.to(self.device, non_blocking=True)
            logits, loss = optimised(self.net(batch.images.to(self.device, non_blocking=True)), labels)
            loss.backward()
            refuse_bad_step(self.net, self.parameters, loss.detach(), state.step + 1, state.epoch + 1)
            self.optimiser.step()
            self.optimiser.zero_grad(set_to_none=True)
            with torch.no_grad():
                right = (logits.argmax(dim=1) == labels).sum()
                self.sums += torch.stack((loss.detach() * len(labels), right)).to(self.sums.dtype)
            state.sums.images += len(labels)
        state.step += 1
        return rate

    # ---- Epochs ------------------------------------------------------------------------------------------------------

    def _end_epoch(self, talk: Talk) -> None:
        """Validation, the log's line, the schedule's memory and a checkpoint."""
        state = self.state
        sums = self._settle()
        if not sums.images:
            some = state.new_bad or state.bad
            first = f"; the first: {some[0].path}: {some[0].reason}" if some else ""
            raise BadData(f"no image of the train split could be used in epoch {state.epoch + 1}{first}")
        refuse_non_finite(self.net.state_dict(), state.step)
        rate = self.schedule.rate(state.step - 1, state.plateau)
        counts = self._validate()
        state.epoch += 1
        validation = None
        if counts is not None:
            validation = folder.Validation(
                counts.correct, counts.top5_correct, counts.images, counts.loss / counts.images
            )
            state.note(counts.bad)
            state.plateau = self.schedule.after_validation(counts.images - counts.correct, state.plateau)
            # The loss parts equals: a small validation set is all right early, long before the network is.
            here = Best(state.step, state.epoch, counts.correct, validation.loss)
            if state.best is None or (here.correct, -here.loss) > (state.best.correct, -state.best.loss):
                state.best = here
        state.new_bad.sort(key=lambda b: b.path)
        bad = tuple(state.new_bad)
        loss = sums.loss / sums.images
        line = folder.Epoch(state.epoch, state.step, rate, loss, sums.correct, sums.images, validation, bad)
        state.log_bytes = folder.add_line(self.run / "log.jsonl", line)
        state.bad, state.new_bad = sorted([*state.bad, *bad], key=lambda b: b.path), []
        self._clock()
        state.sums = Sums()
        self.sums.zero_()
        self.save()
        talk.epoch(state.epoch, loss, rate, None if counts is None else counts.correct, counts.images if counts else 0)

    def _validate(self) -> Counts | None:
        split = self.data.splits.get("validation")
        if split is None:
            return None
        view = View(self.config.spec.preprocess, self.device, self.recipe.batch, self.workers)
        return count(self.net, split, view, self.obey)  # stopped here, the epoch's end is done again after a resume

    def _clock(self) -> None:
        here = time.monotonic()
        seconds = self.earlier + here - self.begin
        line = {
            "epoch": self.state.epoch,
            "step": self.state.step,
            "seconds": round(seconds, 3),
            "images_per_second": self.speed,
        }
        folder.add_line(self.run / "clock.jsonl", line)

    # ---- Saving and stopping -----------------------------------------------------------------------------------------

    def save(self) -> None:
        """Writes a checkpoint of this moment, between two steps. Raises SaveFailed, NonFinite."""
        self._settle()
        self.state.seconds = self.earlier + time.monotonic() - self.begin
        self.checkpoints.save(self.state, self.net, self.optimiser)
        self.saved_at = time.monotonic()

    def obey(self) -> None:
        """Raises Stopped, with everything saved, when a signal came."""
        if self.wish.signal is None:
            return
        step = self.state.step
        if not self.checkpoints.good or self.checkpoints.good[-1] != self.checkpoints.path(step).name:
            self.save()
        raise Stopped(
            f"stopped by {self.wish.signal.name} after step {step:,} of {self.length.steps:,}; everything is saved, "
            f"{folder.how_to_resume(self.run)} goes on",
            self.wish.signal,
        )

    def _kept(self) -> str:
        if not self.checkpoints.good:
            return "there is no earlier checkpoint"
        return f"{self.checkpoints.good[-1]} is whole, {folder.how_to_resume(self.run)} goes on from it"

    def _settle(self) -> Sums:
        """Brings the sums from the device into the state."""
        loss, right = self.sums.tolist()
        self.state.sums.loss, self.state.sums.correct = loss, int(right)
        return self.state.sums

    def _mean_loss(self) -> float:
        return self._settle().loss / max(self.state.sums.images, 1)

    def _on_device(self, sums: Sums) -> Tensor:
        # Apple's GPUs have no float64; either way the sums are the same after a resume, being stored in full.
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        return torch.tensor((sums.loss, sums.correct), dtype=dtype, device=self.device)


def optimised(given: Tensor | Heads, labels: Tensor) -> tuple[Tensor, Tensor]:
    """The logits of the network's last layer, and the loss: cross entropy, and each auxiliary head's by its weight."""
    if isinstance(given, Tensor):
        return given, nn.functional.cross_entropy(given, labels)
    loss = nn.functional.cross_entropy(given.logits, labels)
    heads = [nn.functional.cross_entropy(logits, labels) for logits in given.auxiliary]
    return given.logits, loss + given.weight * torch.stack(heads).sum()


def mixed(seed: int, step: int) -> int:
    """A seed for torch's generators that is a pure function of both. 63 bits."""
    return int.from_bytes(hashlib.sha256(f"{seed} {step}".encode()).digest()[:8]) >> 1


def refuse_bad_step(net: nn.Module, parameters: list[nn.Parameter], loss: Tensor, step: int, epoch: int) -> None:
    """Raises NonFinite before the optimiser spoils the weights, when the loss or a gradient is NaN or infinite.

    One number a step is read from the device; only where that is not finite is every gradient looked at, since a norm
    may overflow that stands for finite numbers.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if isfinite(torch.stack([loss.abs(), *torch._foreach_norm(gradients)]).sum().item()):
        return
    value = loss.item()
    spoiled = first_non_finite(net.state_dict().items())
    gradient = first_non_finite((n, p.grad) for n, p in net.named_parameters() if p.grad is not None)
    if spoiled is not None:
        what = f"{spoiled} is not finite, and the loss is {value:g}"
    elif not isfinite(value):
        what = f"the loss is {value:g}"
    elif gradient is not None:
        what = f"the gradient of {gradient} is not finite"
    else:
        return
    raise NonFinite(
        f"{what} in step {step:,} (epoch {epoch}); stopped before the weights changed; "
        "a smaller learning rate helps (--set lr=...), and so may other starting weights"
    )


@contextmanager
def _batch_norm_of_one(batch: int) -> Iterator[None]:
    """Torch's refusal to normalise a single value a channel as a BadRecipe line."""
    try:
        yield
    except ConvAtlasError:
        raise
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise BadRecipe(
            f"batch norm cannot train on a batch of {batch} with maps of 1x1; use --set batch=2 or more"
        ) from None
