"""SIGTERM and SIGINT as a wish to stop: noted here, obeyed by the loop after the running step."""

import os
import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

WATCHED = (signal.SIGTERM, signal.SIGINT)


class StopWish:
    """A context in which the first signal only sets `signal`. A second SIGINT raises KeyboardInterrupt at once.

    Outside the main thread Python allows no handlers; signals then do what they did before. The earlier handlers come
    back at the end.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._before: dict[int, Any] = {}
        self._process = os.getpid()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._before = {s: signal.signal(s, self._note) for s in WATCHED}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)

    def _note(self, number: int, frame: FrameType | None) -> None:
        # Loader processes inherit this handler. A terminal or a job system signals the whole group, and a loader that
        # died would take the training with it; it ends by itself when the training does.
        if os.getpid() != self._process:
            return
        if number == signal.SIGINT:
            if self.signal is signal.SIGINT:
                raise KeyboardInterrupt
            os.write(2, b"\nstopping after this step; once more stops at once\n")  # a print is not safe in a handler
        if self.signal is None or number == signal.SIGINT:
            self.signal = signal.Signals(number)
