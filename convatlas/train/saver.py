"""Checkpoints written while the training goes on."""

from concurrent.futures import Future, ThreadPoolExecutor

from .checkpoint import Checkpoints, Snapshot
from .progress import say


class Saver:
    """Writes one snapshot at a time in a thread; what went wrong is raised by the next call."""

    def __init__(self, checkpoints: Checkpoints):
        self.checkpoints = checkpoints
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._running: Future[None] | None = None

    def save(self, moment: Snapshot) -> None:
        """Starts to write, once the one before is whole. Raises SaveFailed of that one."""
        self.wait()
        self._running = self._pool.submit(self.checkpoints.save, moment)

    def wait(self) -> None:
        """Comes back when everything is on the disk. Raises SaveFailed."""
        running, self._running = self._running, None
        if running is not None:
            running.result()

    def close(self) -> None:
        """Ends the thread after what it writes now. A failure that no call came to raise is told."""
        self._pool.shutdown()
        running, self._running = self._running, None
        error = running.exception() if running is not None else None
        if error is not None:
            say(str(error))
