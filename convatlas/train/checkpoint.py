"""Checkpoints: a folder a step that is whole or absent, found again after any kill.

    checkpoints/step-000001200/{model.safetensors,optimiser.safetensors,state.json,MANIFEST.json}
    checkpoints/step-000001200/training.safetensors    where the model is an average: the weights that are trained
    checkpoints/best, checkpoints/last     text files with such a folder's name

The newest folder whose manifest verifies counts, not what `last` says: a kill may fall between the two.
"""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from .. import files, weights
from ..data import BadFile
from ..errors import BadCheckpoint, NonFinite, SaveFailed, UsageError
from ..record import from_json, to_json
from .progress import say
from .updating.diagnosis import first_non_finite
from .updating.schedule import Plateau

FORMAT = 2  # version of state.json


@dataclass
class Sums:
    """What the running epoch's batches came to so far."""

    loss: float = 0.0  # summed over images
    correct: int = 0
    images: int = 0
    heads: list[float] = field(default_factory=list)  # each auxiliary head's loss, summed over images
    norms: list[float] = field(default_factory=list)  # squared, of each parameter's gradient, where they are logged
    steps: int = 0


@dataclass
class Best:
    step: int
    epoch: int
    correct: int
    loss: float  # mean over the validation images


@dataclass
class State:
    """Everything beside tensors that a training needs to go on as if nothing had happened."""

    format: int = FORMAT
    step: int = 0  # batches used
    epoch: int = 0  # epochs finished, validation included
    sums: Sums = field(default_factory=Sums)
    plateau: Plateau = field(default_factory=Plateau)
    best: Best | None = None
    bad: list[BadFile] = field(default_factory=list)  # named in the log
    new_bad: list[BadFile] = field(default_factory=list)  # seen since the log's last line
    log_bytes: int = 0  # length of log.jsonl at this moment
    gradient_bytes: int = 0  # of gradients.jsonl
    parts: int = 1  # that a batch is worked off in
    scale: tuple[float, int] | None = None  # fp16: of the loss, and steps since it last changed
    seconds: float = 0.0  # of training, over all parts

    def note(self, bad: tuple[BadFile, ...]) -> None:
        """Remembers files that could not be read, each once."""
        if not bad:
            return
        known = {b.path for b in (*self.bad, *self.new_bad)}
        self.new_bad += [b for b in bad if b.path not in known]


@dataclass(frozen=True)
class Snapshot:
    """A moment of a training between two steps, apart from what goes on."""

    state: State
    model: dict[str, Tensor]  # what is evaluated and shipped
    optimiser: dict[str, Tensor]
    training: dict[str, Tensor] | None = None  # the weights that are trained, where the model is their average

    def refuse_non_finite(self) -> None:
        """Raises NonFinite."""
        others = {**(self.training or {}), **self.optimiser}
        refuse_non_finite({**self.model, **others}, self.state.step)


class Checkpoints:
    """The checkpoints of one run. Keeps the last two and the best."""

    def __init__(self, run: Path):
        self.folder = run / "checkpoints"
        self.good: list[str] = []  # names that this process wrote or verified, oldest first
        self.damaged: set[str] = set()  # names that it reported; never removed, only written anew

    def make(self) -> None:
        """Makes the folder. Raises SaveFailed."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SaveFailed(files.save_message(self.folder, error)) from error

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Holds the run for this process, so that a job that was started twice does not spoil it. Raises UsageError.

        The system frees it when the process ends, however it ends. A file system without locks goes without.
        """
        self.make()
        try:
            import fcntl
        except ImportError:  # not on Windows
            yield
            return
        file = self.folder / "lock"
        try:
            held = file.open("w")
        except OSError as error:
            raise SaveFailed(files.save_message(file, error)) from error
        with held:
            try:
                fcntl.lockf(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                run = self.folder.parent
                raise UsageError(
                    f"another process is training into {run}; wait for it or choose another --out"
                ) from None
            except OSError:
                pass
            yield

    def clean(self) -> None:
        """Takes away what killed processes left half written. Call under `lock`."""
        for leftover in (*self.folder.glob("tmp-*"), *self.folder.glob(".*.tmp"), *self.folder.parent.glob(".*.tmp")):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink(missing_ok=True)

    def newest(self) -> tuple[Path, State] | None:
        """The newest whole checkpoint and its state. Each damaged one that is passed over is named on stderr.

        Raises BadCheckpoint when there are checkpoints and none is whole.
        """
        names = sorted((p.name for p in self.folder.glob("step-*")), reverse=True)
        for name in names:
            step = self.folder / name
            fault = files.damage(step)
            if fault is None:
                try:
                    state = from_json(State, (step / "state.json").read_bytes())
                    if state.format != FORMAT:
                        fault = f"it has format {state.format}, this version reads {FORMAT}"
                except (OSError, ValueError) as error:
                    fault = f"state.json cannot be read: {error}"
            if fault is None:
                self.good = [name]
                return step, state
            self.damaged.add(name)
            say(f"checkpoint {step} is damaged: {fault}; it is left as it is, and an older one is looked for")
        if names:
            several = len(names) > 1
            raise BadCheckpoint(
                f"{self.folder} holds {len(names)} checkpoint{'s' * several} and none is whole; start anew in another "
                f"folder, or move {'them' if several else 'it'} away and --resume to train from the start"
            )
        return None

    def save(self, moment: Snapshot) -> None:
        """Writes a step's folder, then the pointers, then removes older ones. Raises SaveFailed.

        The last good checkpoint stays until the new one is whole.
        """
        name = step_name(moment.state.step)

        def fill(folder: Path) -> None:
            weights.save(moment.model, folder / "model.safetensors")
            weights.save(moment.optimiser, folder / "optimiser.safetensors")
            if moment.training is not None:
                weights.save(moment.training, folder / "training.safetensors")
            (folder / "state.json").write_text(to_json(moment.state, indent=1))

        files.write_folder(self.folder / name, fill)
        self.damaged.discard(name)
        self.good = [*(g for g in self.good if g != name), name]
        self.point(moment.state)
        self._prune(moment.state)

    def point(self, state: State) -> None:
        """Writes `last` and `best` as the state has them."""
        files.write(self.folder / "last", f"{step_name(state.step)}\n")
        if state.best is not None:
            files.write(self.folder / "best", f"{step_name(state.best.step)}\n")

    def path(self, step: int) -> Path:
        return self.folder / step_name(step)

    def _prune(self, state: State) -> None:
        keep = {*self.good[-2:], *({step_name(state.best.step)} if state.best else ())}
        for old in self.folder.glob("step-*"):
            if old.name not in keep | self.damaged:
                # Renamed first: a kill while it is being removed leaves a tmp- folder, not half a checkpoint.
                with contextlib.suppress(OSError):
                    shutil.rmtree(old.rename(old.with_name(f"tmp-old-{old.name}")), ignore_errors=True)
        self.good = [g for g in self.good if g in keep]


def step_name(step: int) -> str:
    return f"step-{step:09d}"


def refuse_non_finite(tensors: dict[str, Tensor], step: int) -> None:
    """Raises NonFinite that names the first tensor with a NaN or an infinity."""
    name = first_non_finite(tensors.items())
    if name is not None:
        raise NonFinite(
            f"{name} is not finite after step {step:,}; no checkpoint was made of it, the last good one is kept; "
            "a smaller learning rate helps (--set lr=...)"
        )
