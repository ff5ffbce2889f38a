"""One process at a time, by a lock that the system drops when its holder dies."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Holds a lock file; gives False where another holds it and `wait` is off. Threads exclude each other, too."""
    try:
        import fcntl
    except ImportError:  # Windows: files still appear whole, but two processes may fetch the same one
        yield True
        return
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True  # closing the file gives the lock back
