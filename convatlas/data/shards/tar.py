"""A tar file that is written front to back, with its sha256; equal entries give equal bytes."""

import hashlib
import tarfile
from pathlib import Path
from types import TracebackType

from ...files import sync
from .manifest import BLOCK


class TarWriter:
    """Appears at `path` whole when it is finished; a killed one leaves a hidden file that the next one overwrites."""

    def __init__(self, path: Path):
        self.path = path
        self._beside = path.with_name(f".{path.name}.tmp")
        self._file = self._beside.open("wb")
        self._sum = hashlib.sha256()
        self.bytes = 0

    def __enter__(self) -> "TarWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._file.close()
        self._beside.unlink(missing_ok=True)

    def add(self, name: str, content: bytes) -> int:
        """Appends a file and returns the block where its bytes start. Its date is 1970 and its owner nobody's."""
        info = tarfile.TarInfo(name)
        info.size = len(content)
        self._write(info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict"))
        block = self.bytes // BLOCK
        self._write(content)
        self._write(bytes(-len(content) % BLOCK))
        return block

    def finish(self) -> str:
        """Closes the file, waits for the disk, gives the file its name and returns its sha256."""
        self._write(bytes(total([], self.bytes) - self.bytes))
        self._file.close()
        sync(self._beside)
        self._beside.rename(self.path)
        sync(self.path.parent)
        return self._sum.hexdigest()

    def _write(self, content: bytes) -> None:
        self._file.write(content)
        self._sum.update(content)
        self.bytes += len(content)


def total(sizes: list[int], start: int = 0) -> int:
    """Bytes of a finished tar with files of these sizes after `start` bytes: two zero blocks, then whole records."""
    bytes_ = start + sum(BLOCK + -(-size // BLOCK) * BLOCK for size in sizes) + 2 * BLOCK
    return -(-bytes_ // tarfile.RECORDSIZE) * tarfile.RECORDSIZE
