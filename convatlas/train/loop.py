"""The training loop: steps, epochs, validation, checkpoints, and stopping where nothing is lost."""

import copy
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import torch
from torch import Tensor

from ..data import Data
from ..data.loader import Batch, Feed, eval_batches
from ..errors import BadData, BadRecipe, ConvAtlasError, NonFinite, SaveFailed, Stopped
from ..paper import Recipe
from ..split import Split
from . import run as folder
from .boards import Board
from .checkpoint import Best, Checkpoints, Snapshot, State, Sums, refuse_non_finite
from .device import out_of_memory
from .evaluating.evaluation import Counts, View, count, merged
from .processes import Processes
from .progress import Talk
from .saver import Saver
from .signals import StopWish
from .updating import diagnosis, optimisers
from .updating.averaging import Average, statistics_anew
from .updating.groups import hold
from .updating.schedule import Length, Schedule
from .updating.step import Stepper, heads_of

BETWEEN_NOTES = 1.0  # seconds between two notes for the other processes of how far this one is


@dataclass
class Training:
    """One training in this process: what it changes (net, optimiser, state) and what it needs for that."""

    run: Path
    config: folder.RunConfig
    data: Data
    feed: Feed
    length: Length
    stepper: Stepper
    state: State
    checkpoints: Checkpoints
    wish: StopWish
    average: Average | None = None
    save_seconds: float = 60.0
    gradients: bool = False  # whether gradients.jsonl is written
    board: Board | None = None

    def __post_init__(self) -> None:
        self.schedule = Schedule(self.recipe, self.length)
        self.net, self.device = self.stepper.net, self.stepper.device
        self.processes: Processes = self.stepper.processes
        self.sums = self._on_device(self.state.sums)
        saved = self.state.sums.norms if self.gradients else []
        # Squared, summed over the epoch's steps.
        self.norms = torch.tensor(saved, dtype=torch.float64) if saved else None
        self.saver = Saver(self.checkpoints)
        self.begin = self.saved_at = self.noted_at = time.monotonic()
        self.earlier = self.state.seconds
        self.stop = 0  # the signal that the processes agreed on
        self.speed: float | None = None  # images a second in the last epoch, without validation
        self.waited = 0.0  # seconds of the epoch in which the step waited for its images

    @property
    def recipe(self) -> Recipe:
        return self.config.recipe

    @property
    def workers(self) -> int:
        """Loader processes."""
        return self.feed.workers

    @property
    def finished(self) -> bool:
        return self.state.epoch * self.length.steps_per_epoch >= self.length.steps

    def go(self, bar: bool) -> None:
        """Trains to the recipe's end. Raises Stopped after a signal, NonFinite, RunFailed for want of memory."""
        try:
            with Talk(self.length, self.state.step, bar and self.processes.first) as talk:
                while not self.finished:
                    self._train_epoch(talk)
                    self._end_epoch(talk)
                    self.obey()
                self.saver.wait()
                self.processes.told(None)  # the others read what the first one wrote
        except SaveFailed as error:
            raise SaveFailed(f"{error}; {self._kept()}") from error
        finally:
            self.saver.close()

    # ---- Steps -------------------------------------------------------------------------------------------------------

    def _train_epoch(self, talk: Talk) -> None:
        """The running epoch's batches that are still to be used."""
        first = self.state.epoch * self.length.steps_per_epoch
        end = min(first + self.length.steps_per_epoch, self.length.steps)
        if self.state.step >= end:
            return
        self.net.train()
        hold(self.net, self.recipe)
        begin, images, self.waited = time.monotonic(), self.state.sums.images, 0.0
        with out_of_memory(self.device, "training"), _batch_norm_of_one(self.recipe.batch):
            for batch in self._batches(self.state.step - first):
                self.state.step = first + batch.position  # batches of nothing but bad files were passed over
                if self.state.step >= end:
                    break
                rate = self._step(batch)
                talk.step(self.state.step, batch.whole, rate, self._mean_loss)
                if self.state.step >= end:
                    break
                self.obey()
                if time.monotonic() - self.saved_at >= self.save_seconds:
                    self.save()
        self.state.step = end
        self.speed = round((self.state.sums.images - images) / (time.monotonic() - begin), 1)

    def _batches(self, start: int) -> Iterator[Batch]:
        batches = self.feed.batches(self.state.epoch, start)
        try:
            while True:
                asked = time.monotonic()
                batch = next(batches, None)
                self.waited += time.monotonic() - asked
                if batch is None:
                    return
                yield batch
        except BadData:  # none of the images that are left can be read; before a resume some could
            if not self.state.sums.images:
                raise

    def _step(self, batch: Batch) -> float:
        """One update; gives its learning rate."""
        state = self.state
        rate = self.schedule.rate(state.step, state.plateau)
        state.note(batch.bad)
        # Batch norm cannot normalise one image, all that bad files may leave of a batch.
        if self.processes.of > 1 or len(batch.labels) >= min(2, self.recipe.batch):
            done = self.stepper.step(batch, rate, state.step, state.epoch + 1, self.wish.signal or 0)
            self.stop = done.stop
            for bad in self.processes.gathered(batch.bad) if done.bad else []:
                state.note(bad)
            with torch.no_grad():
                both = torch.stack([torch.as_tensor(x, device=self.device) for x in (done.loss, done.correct)])
                self.sums += torch.cat([both, done.heads]).to(self.sums.dtype)
                if self.gradients and done.norms:
                    self._add_norms(done.norms)
            state.sums.images += done.images
            state.sums.steps += bool(done.norms)
            if self.average is not None:
                self.average.update(self.net, state.step + 1)
        state.step += 1
        if self.recipe.warm_up_error is not None and self.schedule.warming(state.step, state.plateau):
            sums = self._settle()
            errors = sums.images - sums.correct
            state.plateau = self.schedule.after_step(state.step, errors, sums.images, state.plateau)
        if self.processes.of > 1 and time.monotonic() - self.noted_at > BETWEEN_NOTES:
            self.noted_at = time.monotonic()
            self.processes.at(f"step {state.step:,}")
        return rate

    def _add_norms(self, norms: list[Tensor]) -> None:
        squared = torch.stack([n.float() for n in norms]).double() ** 2
        if self.norms is None:
            self.norms = torch.zeros(len(norms), dtype=torch.float64)
        self.norms += squared.cpu()

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
        last = (state.epoch + 1) * self.length.steps_per_epoch >= self.length.steps
        with self.average.in_place(self.net) if self.average else nullcontext():
            if last and self.recipe.statistics:
                self._statistics()
                if self.average:
                    self.average.take(self.net)
            counts = self._validate()
        state.epoch += 1
        errors = None if counts is None else counts.images - counts.correct
        state.plateau = self.schedule.after_epoch(errors, sums.images - sums.correct, state.plateau)
        validation = self._judge(counts)
        state.new_bad.sort(key=lambda b: b.path)
        bad = tuple(state.new_bad)
        loss = sums.loss / sums.images
        heads = tuple(head / sums.images for head in sums.heads)
        line = folder.Epoch(state.epoch, state.step, rate, loss, sums.correct, sums.images, validation, bad, heads)
        if self.processes.first:
            self._write_lines(line)
        state.bad, state.new_bad = sorted([*state.bad, *bad], key=lambda b: b.path), []
        state.sums = Sums()
        self.sums.zero_()
        self.norms = None
        self.save()
        if self.board is not None:
            self.board.epoch(line, self.speed)
        talk.epoch(line, self.waited)

    def _judge(self, counts: Counts | None) -> folder.Validation | None:
        """The validation's line, and the best checkpoint so far."""
        state = self.state
        if counts is None:
            return None
        mean = counts.loss / counts.images
        state.note(counts.bad)
        # The loss parts equals: a small validation set is all right early, long before the network is.
        here = Best(state.step, state.epoch, counts.correct, mean)
        if state.best is None or (here.correct, -here.loss) > (state.best.correct, -state.best.loss):
            state.best = here
        return folder.Validation(counts.correct, counts.top5_correct, counts.images, mean)

    def _validate(self) -> Counts | None:
        split = self.data.splits.get("validation")
        if split is None:
            return None
        view = View(
            self.config.spec.preprocess, self.device, self.recipe.batch, self.workers, share=self.processes.share
        )
        own = count(self.net, split, view, self.obey)  # stopped here, the epoch's end is done again after a resume
        counts = merged(self.processes.gathered(own))
        if not isfinite(counts.loss):
            raise NonFinite(diagnosis.of_validation(self.net, split, view, self.recipe, self.state.step))
        return counts

    def _statistics(self) -> None:
        """Takes batch norm's statistics anew from the recipe's number of training images, as the test sees them.

        Every process does the same, so that all go on with the same network.
        """
        split = self.data.splits["train"]
        some = torch.linspace(0, len(split) - 1, min(self.recipe.statistics, len(split))).round().long().numpy()
        with statistics_anew(self.net):
            for batch in eval_batches(
                split.take("train", some),
                self.config.spec.preprocess,
                batch=self.recipe.batch,
                workers=self.workers,
            ):
                if len(batch.labels) > 1:
                    self.net(batch.images.to(self.device))

    def _write_lines(self, line: folder.Epoch) -> None:
        self.state.log_bytes = folder.add_line(self.run / "log.jsonl", line)
        if self.norms is not None:
            means = (self.norms / self.state.sums.steps).sqrt().tolist()
            norms = folder.Gradients(line.epoch, dict(zip(self.stepper.names, means, strict=True)))
            self.state.gradient_bytes = folder.add_line(self.run / "gradients.jsonl", norms)
        clock = {
            "epoch": line.epoch,
            "step": line.step,
            "seconds": round(self.earlier + time.monotonic() - self.begin, 3),
            "images_per_second": self.speed,
            "waited_for_images": round(self.waited, 3),
        }
        folder.add_line(self.run / "clock.jsonl", clock)

    # ---- Saving and stopping -----------------------------------------------------------------------------------------

    def save(self) -> None:
        """Takes a checkpoint of this moment, between two steps; it is written while the training goes on.

        Raises NonFinite, and SaveFailed of the one before.
        """
        self.saved_at = time.monotonic()
        if not self.processes.first:
            return
        self._settle()
        self.state.seconds = self.earlier + time.monotonic() - self.begin
        self.state.parts = self.stepper.parts
        if self.norms is not None:
            self.state.sums.norms = self.norms.tolist()
        if self.stepper.scaler is not None:
            scaler = self.stepper.scaler.state_dict()
            self.state.scale = (scaler["scale"], scaler["_growth_tracker"])
        own = _copied(self.net.merge() if isinstance(self.net, Split) else self.net.state_dict())
        if self.average and self.average.aside:  # a signal that came during the validation
            own = _copied(self.average.aside)
        moment = Snapshot(
            copy.deepcopy(self.state),
            _copied(self.average.tensors) if self.average else own,
            _copied(optimisers.tensors(self.net, self.stepper.optimiser)),
            own if self.average else None,
        )
        moment.refuse_non_finite()
        self.saver.save(moment)

    def obey(self) -> None:
        """Raises Stopped, with everything saved, when a signal came. Several processes stop after the same step."""
        wish = self.stop if self.processes.of > 1 else self.wish.signal
        if not wish:
            return
        step = self.state.step
        self.saver.wait()
        if not self.checkpoints.good or self.checkpoints.good[-1] != self.checkpoints.path(step).name:
            self.save()
            self.saver.wait()
        why = signal.Signals(wish)
        raise Stopped(
            f"stopped by {why.name} after step {step:,} of {self.length.steps:,}; everything is saved, "
            f"{folder.how_to_resume(self.run)} goes on",
            why,
        )

    def _kept(self) -> str:
        if not self.checkpoints.good:
            return "there is no earlier checkpoint"
        return f"{self.checkpoints.good[-1]} is whole, {folder.how_to_resume(self.run)} goes on from it"

    def _settle(self) -> Sums:
        """Brings the sums from the device into the state."""
        loss, right, *heads = self.sums.tolist()
        self.state.sums.loss, self.state.sums.correct, self.state.sums.heads = loss, round(right), heads
        return self.state.sums

    def _mean_loss(self) -> float:
        return self._settle().loss / max(self.state.sums.images, 1)

    def _on_device(self, sums: Sums) -> Tensor:
        # Apple's GPUs have no float64; either way the sums are the same after a resume, being stored in full.
        dtype = torch.float32 if self.device.type == "mps" else torch.float64
        heads = sums.heads or [0.0] * heads_of(self.net)
        return torch.tensor((sums.loss, sums.correct, *heads), dtype=dtype, device=self.device)


def _copied(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: t.detach().clone() for name, t in tensors.items()}


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
