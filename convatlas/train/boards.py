"""The curves of a training for TensorBoard, where that is installed and asked for."""

import importlib.util
from pathlib import Path
from typing import Any

from ..errors import MissingExtra
from .run import Epoch


def require() -> None:
    """Raises MissingExtra where TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise MissingExtra("tensorboard", "tensorboard", "--tensorboard")


class Board:
    """Writes below RUN/tensorboard; after a resume TensorBoard passes over what is written a second time."""

    def __init__(self, run: Path, step: int):
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)

    def epoch(self, line: Epoch, speed: float | None) -> None:
        """One finished epoch; errors are shares of one."""
        scalars = {
            "loss/train": line.train_loss,
            "error/train": 1 - line.train_correct / line.train_images,
            "learning rate": line.lr,
        }
        if line.validation is not None:
            scalars["loss/validation"] = line.validation.loss
            scalars["error/validation"] = 1 - line.validation.correct / line.validation.images
        if speed is not None:
            scalars["images per second"] = speed
        for name, value in scalars.items():
            self._writer.add_scalar(name, value, line.step)
        self._writer.flush()
