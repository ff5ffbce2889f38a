"""What a training says while it runs, on stderr: a bar on a terminal, else a plain line an epoch."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from .. import units
from .schedule import Length

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

BETWEEN_LINES = 1.0  # seconds; tiny epochs would flood a log
BETWEEN_LOOKS = 0.2  # seconds between two readings of the loss, which on a GPU wait for it


class Reading(Protocol):
    def __call__(self) -> float: ...


class Talk:
    """A context around the training loop. `bar` asks for the bar, which still needs a terminal."""

    def __init__(self, length: Length, step: int, bar: bool):
        self.length = length
        self.first = step
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
        now = time.monotonic()
        if self._bar is None or self._task is None or now - self.looked < BETWEEN_LOOKS:
            return
        self.looked = now
        speed = self.images / (now - self.begin)
        epoch = -(-done // self.length.steps_per_epoch)
        note = f"{speed:,.0f} images/s  loss {loss():.4f}  lr {rate:.3g}{self.validation}"
        name = f"epoch {epoch} of {_total(self.length)}"
        self._bar.update(self._task, completed=done, description=name, note=note)

    def epoch(self, number: int, loss: float, rate: float, correct: int | None, of: int) -> None:
        """After an epoch and its validation, which is None where there is none."""
        self.validation = "" if correct is None else f"  validation {units.of(correct, of)}"
        speed = self.images / max(time.monotonic() - self.begin, 1e-9)
        line = (
            f"epoch {number} of {_total(self.length)}: loss {loss:.4f}, lr {rate:.3g}"
            f"{self.validation.replace('  ', ', ')}, {speed:,.0f} images/s"
        )
        if self._bar is not None:
            return
        self.waiting = line
        if time.monotonic() - self.spoke >= BETWEEN_LINES:
            self._print(line)

    def _print(self, line: str) -> None:
        self.spoke = time.monotonic()
        self.waiting = ""
        say(line)


def say(line: str) -> None:
    print(f"convatlas: {line}", file=sys.stderr, flush=True)


def _total(length: Length) -> str:
    return f"{-(-length.steps // length.steps_per_epoch)}"


def _bar() -> "Progress":
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("step"),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    return Progress(*columns, console=Console(stderr=True))
