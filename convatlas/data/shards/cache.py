"""A bounded folder of fetched files, each under its sha256; those used longest ago make room for new ones.

Several processes may use it at once: a file appears whole, one process fetches it while the others wait, and what is
open stays readable when it is removed (POSIX).
"""

import hashlib
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ... import units
from ...errors import SaveFailed, UsageError
from ...files import save_message
from .locking import locked

FOLDER = "CONVATLAS_CACHE"  # environment: the folder
SIZE = "CONVATLAS_CACHE_SIZE"  # environment: such as 200GB
LIMIT = 50 * 10**9  # bytes
LOCKS = 256  # lock files are never removed, so there is a fixed number of them
PART = ".part"


@dataclass(frozen=True)
class Cache:
    """`limit` bytes at most, or one file where that is larger."""

    folder: Path
    limit: int = LIMIT

    @staticmethod
    def default() -> "Cache":
        """Where the environment says, else the user's cache folder. Raises UsageError for a size that is none."""
        text = os.environ.get(SIZE)
        try:
            limit = units.read_size(text) if text else LIMIT
        except ValueError:
            raise UsageError(f"{SIZE} is {text!r}; give a size such as 200GB") from None
        given = os.environ.get(FOLDER)
        return Cache(Path(given) if given else _users() / "convatlas", limit)

    def get(self, sha256: str, size: int, fetch: Callable[[Path], None]) -> Path:
        """The file of that sum; where it is not there, `fetch` writes it to the path it is given (and proves it).

        What a killed fetch left lies there already. Raises SaveFailed where the disk refuses.
        """
        path = self.folder / sha256
        if self._there(path, size):
            return path
        try:
            (self.folder / "locks").mkdir(parents=True, exist_ok=True)
            with locked(self._lock(sha256)):
                if self._there(path, size):  # another process was first
                    return path
                self._make_room(sha256, size)
                part = self.folder / f"{sha256}.{size}{PART}"
                fetch(part)
                part.replace(path)
        except SaveFailed:
            raise
        except OSError as error:
            raise SaveFailed(save_message(path, error)) from error
        return path

    @staticmethod
    def _there(path: Path, size: int) -> bool:
        try:
            if path.stat().st_size != size:
                return False
            os.utime(path)  # the date says when it was used last
        except OSError:
            return False
        return True

    def _lock(self, sha256: str) -> Path:
        number = int(hashlib.sha256(sha256.encode()).hexdigest(), 16) % LOCKS
        return self.folder / "locks" / f"{number:03}"

    def _make_room(self, sha256: str, size: int) -> None:
        """Removes what was used longest ago until `size` fits; what another process is fetching stays and counts."""
        with locked(self.folder / "locks" / "room"):
            held = []
            for path in self.folder.iterdir():
                with suppress(OSError):
                    if path.is_file() and not path.name.startswith(sha256):
                        about = path.stat()
                        whole = int(path.name.split(".")[1]) if path.name.endswith(PART) else about.st_size
                        held.append((about.st_mtime_ns, path, whole))
            total = sum(whole for _, _, whole in held) + size
            for _, path, whole in sorted(held):
                if total <= self.limit:
                    return
                if self._removed(path):
                    total -= whole

    def _removed(self, path: Path) -> bool:
        with suppress(OSError):
            if path.name.endswith(PART):
                with locked(self._lock(path.name.split(".")[0]), wait=False) as free:
                    if not free:
                        return False
                    path.unlink()
            else:
                path.unlink()
            return True
        return False


def _users() -> Path:
    """The folder that the system keeps for caches."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
