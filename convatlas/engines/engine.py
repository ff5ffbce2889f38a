"""What every engine is once it is open."""

from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

import numpy as np

from ..errors import BadInput, RunFailed
from ..units import shape as written


class Backend(Protocol):
    """A network placed on a device by one library; `about` says in words what was done to it."""

    about: str

    def place(self, images: np.ndarray) -> Callable[[], Any]:
        """Puts images on the device; each call of what is given is one forward pass, ended when it returns."""

    def fetch(self, answer: Any) -> np.ndarray:
        """What such a call gave, as float32 (N,classes)."""

    def close(self) -> None:
        """Gives memory back."""


class Engine:
    """A network that is ready to run, by one library, in one precision, on one device.

    `threads` is how many a pass may use on the CPU (0 elsewhere), `about` says in words what was done to the network.
    It is a context manager that closes itself.
    """

    def __init__(
        self, name: str, backend: Backend, shape: tuple[int, int, int], *, precision: str, device: str, threads: int
    ):
        self.name, self.precision, self.device, self.threads = name, precision, device, threads
        self.about = backend.about
        self._shape = tuple(shape)
        self._backend: Backend | None = backend

    def run(self, images: np.ndarray) -> np.ndarray:
        """(N,C,H,W) float32 -> logits (N,classes) float32. Raises BadInput for other images."""
        backend = self._checked(images)
        return backend.fetch(backend.place(images)())

    def ready(self, images: np.ndarray) -> Callable[[], None]:
        """Places (N,C,H,W) float32 images once; each call is then one forward pass, which has ended when it returns.

        Raises BadInput for other images.
        """
        once = self._checked(images).place(images)

        def call() -> None:
            once()

        return call

    def close(self) -> None:
        """Gives the network's memory back; a second time changes nothing."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def _checked(self, images: np.ndarray) -> Backend:
        if self._backend is None:
            raise RunFailed(f"this {self.name} engine was closed and runs nothing more; open another one")
        if images.dtype != np.float32 or images.ndim != 4 or images.shape[1:] != self._shape or not len(images):
            given = f"{images.dtype} {written(images.shape) or 'of no shape'}"
            raise BadInput(f"images are {given}, but the engine takes float32 Nx{written(self._shape)}; convert them")
        return self._backend

    def __enter__(self) -> "Engine":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
