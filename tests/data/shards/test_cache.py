"""A bounded folder that several processes share."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from convatlas.data.shards import Cache
from convatlas.errors import SaveFailed, UsageError


def name(i: int) -> str:
    return hashlib.sha256(bytes([i])).hexdigest()


def put(cache: Cache, i: int, size: int = 100) -> list[int]:
    fetched: list[int] = []

    def fetch(path: Path) -> None:
        path.write_bytes(bytes(size))
        fetched.append(i)

    assert cache.get(name(i), size, fetch).read_bytes() == bytes(size)
    return fetched


def held(cache: Cache) -> set[str]:
    return {p.name for p in cache.folder.iterdir() if p.is_file()}


def test_what_was_used_longest_ago_makes_room(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", 350)
    for i in range(3):
        assert put(cache, i) == [i]
        os.utime(cache.folder / name(i), (i, i))
    assert put(cache, 0) == []  # used again, so 1 is the oldest
    assert put(cache, 3) == [3]
    assert held(cache) == {name(0), name(2), name(3)}
    put(cache, 4, 1000)  # larger than the whole cache
    assert held(cache) == {name(4)}


def test_what_a_dead_process_left_is_gone_on_with_or_removed(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", 250)
    put(cache, 0)
    (cache.folder / f"{name(1)}.100.part").write_bytes(b"half")
    seen: list[bytes] = []

    def fetch(path: Path) -> None:
        seen.append(path.read_bytes())
        path.write_bytes(bytes(100))

    cache.get(name(1), 100, fetch)
    assert seen == [b"half"]
    (cache.folder / f"{name(2)}.100.part").write_bytes(b"half")
    os.utime(cache.folder / f"{name(2)}.100.part", (0, 0))
    put(cache, 3)
    assert held(cache) <= {name(0), name(1), name(3)}


CHILD = """
import sys, time
from pathlib import Path
from convatlas.data.shards import Cache
def fetch(path):
    print("fetched", flush=True)
    time.sleep(0.3)
    path.write_bytes(bytes(100))
Cache(Path(sys.argv[1])).get("0" * 64, 100, fetch)
"""


def test_several_processes_fetch_a_file_once(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CHILD, str(tmp_path / "c")]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    said = [child.communicate()[0] for child in children]
    assert all(child.returncode == 0 for child in children) and "".join(said) == "fetched\n"


def test_the_environment_says_where_and_how_much(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CONVATLAS_CACHE", str(tmp_path))
    monkeypatch.setenv("CONVATLAS_CACHE_SIZE", "200GB")
    assert Cache.default() == Cache(tmp_path, 200 * 10**9)
    monkeypatch.setenv("CONVATLAS_CACHE_SIZE", "much")
    with pytest.raises(UsageError) as caught:
        Cache.default()
    assert str(caught.value) == "CONVATLAS_CACHE_SIZE is 'much'; give a size such as 200GB"
    for variable in ("CONVATLAS_CACHE", "CONVATLAS_CACHE_SIZE"):
        monkeypatch.delenv(variable)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert Cache.default() == Cache(Path("/x/convatlas"), 50 * 10**9)


def test_a_disk_that_refuses(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SaveFailed, match=r"^cannot write .*: (Not a directory|File exists); .* choose another folder$"):
        put(Cache(tmp_path / "file"), 0)
