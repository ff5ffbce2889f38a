"""What a training says while it runs, on stderr: a bar on a terminal, else plain lines."""

import os
import sys
import time
from collections import deque
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from .. import units
from .updating.schedule import Length

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from .run import Epoch

BETWEEN_LINES = 1.0  # seconds; tiny epochs would flood a log
WITHOUT_NEWS = 60.0  # seconds after which a long epoch gets a line of its own
BETWEEN_LOOKS = 0.2  # seconds between two readings of the loss, which on a GPU wait for it
REMEMBERED = 600  # steps, at most, of which the newest speed is taken
STARVED = 0.2  # share of an epoch's time spent in waiting for images from which it is said


class Reading(Protocol):
    def __call__(self) -> float: ...


class Clock:
    """The time left, from how long the last steps took and what an epoch's end costs beside them."""

    def __init__(self, length: Length, step: int):
        self.length, self.step = length, step
        self.last = time.monotonic()
        self.steps: deque[float] = deque(maxlen=REMEMBERED)
        self.ends: deque[float] = deque(maxlen=5)

    def after_step(self, done: int) -> None:
        now = time.monotonic()
        self.steps.append((now - self.last) / max(done - self.step, 1))
        self.last, self.step = now, done

    def after_epoch(self) -> None:
        """Validation and saving are done."""
        now = time.monotonic()
        self.ends.append(now - self.last)
        self.last = now

    @property
    def left(self) -> float | None:
        """Seconds; None before the first step."""
        if not self.steps:
            return None
        left = self.length.steps - self.step
        ends = -(-self.length.steps // self.length.steps_per_epoch) - self.step // self.length.steps_per_epoch
        return left * sum(self.steps) / len(self.steps) + ends * (sum(self.ends) / len(self.ends) if self.ends else 0)


class Talk:
    """A context around the training loop. `bar` asks for the bar, which still needs a terminal."""

    def __init__(self, length: Length, step: int, bar: bool):
        self.length = length
        self.first = step
        self.clock = Clock(length, step)
        self.begin = self.looked = self.spoke = time.monotonic()
        self.images = 0
        self.validation = ""
        self.waiting = ""  # the newest line that was held back
        self._bar: Progress | None = _bar() if bar and sys.stderr.isatty() else None
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
            self._task = self._bar.add_task("", total=self.length.steps, completed=self.first, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self.waiting:
            self._print(self.waiting)

    def step(self, done: int, images: int, rate: float, loss: Reading) -> None:
        """After each step; `loss` is called only when it is shown."""
        self.images += images
        self.clock.after_step(done)
        now = self.clock.last
        if self._bar is None and now - self.spoke >= WITHOUT_NEWS:
            self._print(f"step {done:,} of {self.length.steps:,}: loss {loss():.4f}, lr {rate:.3g}{self._pace()}")
        if self._bar is None or self._task is None or now - self.looked < BETWEEN_LOOKS:
            return
        self.looked = now
        epoch = -(-done // self.length.steps_per_epoch)
        note = f"loss {loss():.4f}  lr {rate:.3g}{self.validation}{self._pace().replace(', ', '  ')}"
        name = f"epoch {epoch} of {_total(self.length)}"
        self._bar.update(self._task, completed=done, description=name, note=note)

    def epoch(self, line: "Epoch", waited: float) -> None:
        """After an epoch, its validation and its checkpoint; `waited` seconds of it went by without images."""
        self.clock.after_epoch()
        seen = line.validation
        self.validation = "" if seen is None else f"  validation {units.of(seen.correct, seen.images)}"
        hungry = waited / max(self.clock.length.steps_per_epoch * self._step_seconds(), 1e-9)
        starved = f", {100 * min(hungry, 1):.0f} % of the time waiting for images" if hungry > STARVED else ""
        heads = f" (heads {', '.join(f'{h:.4f}' for h in line.head_losses)})" if line.head_losses else ""
        said = (
            f"epoch {line.epoch} of {_total(self.length)}: loss {line.train_loss:.4f}{heads}, lr {line.lr:.3g}"
            f"{self.validation.replace('  ', ', ')}{self._pace()}{starved}"
        )
        if self._bar is not None:
            return
        self.waiting = said
        if time.monotonic() - self.spoke >= BETWEEN_LINES:
            self._print(said)

    def _pace(self) -> str:
        """The speed and the time left."""
        speed = f", {self.images / max(time.monotonic() - self.begin, 1e-9):,.0f} images/s"
        left = self.clock.left
        return f"{speed}, {units.seconds(left)} left" if left else speed

    def _step_seconds(self) -> float:
        steps = self.clock.steps
        return sum(steps) / len(steps) if steps else 0.0

    def _print(self, line: str) -> None:
        self.spoke = time.monotonic()
        self.waiting = ""
        say(line)


def say(line: str) -> None:
    """One line on stderr; of several processes only the first one talks."""
    if os.environ.get("RANK", "0") == "0":
        print(f"convatlas: {line}", file=sys.stderr, flush=True)


def _total(length: Length) -> str:
    return f"{-(-length.steps // length.steps_per_epoch)}"


def _bar() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("step"),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=Console(stderr=True))
