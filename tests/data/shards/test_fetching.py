"""Shards behind an address: equal to those in a folder, or one line that names what is wrong."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from convatlas.data import Preprocess, shards
from convatlas.data.loader import Feed
from convatlas.data.shards import Cache, fetching
from convatlas.errors import BadData, BadImage

SHARD = "/train-000001.tar"


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def second_shard(server: object, cache: Cache) -> bytes:
    stored = shards.read(server.url, cache=cache).splits["train"].stored
    return stored.read(int(np.flatnonzero(stored.shard == 1)[0]))


def test_an_address_gives_what_the_folder_gives(server: object, folder: Path, cache: Cache) -> None:
    local = shards.read(folder)
    for address in (server.url, f"{server.url}/", f"{server.url}/manifest.json"):
        found = shards.read(address, cache=cache)
        assert (found.classes, found.channels, found.rule) == (local.classes, local.channels, local.rule)
    for name, split in found.splits.items():
        assert [split.given(i) for i in range(len(split))] == [local.splits[name].given(i) for i in range(len(split))]
        assert split.digest() == local.splits[name].digest()
        orders = (some.stored.order(7).part(0, len(split)).tolist() for some in (split, local.splits[name]))
        assert next(orders) == next(orders)
    assert len([p for p, _ in server.asked if p.endswith(".tar")]) == len(list(folder.glob("*.tar")))


def test_nothing_is_fetched_before_it_is_read(server: object, cache: Cache) -> None:
    shards.read(server.url, cache=cache)
    assert not any(path.endswith(".tar") for path, _ in server.asked)


@pytest.fixture(scope="module")
def plain_server(folder: Path) -> Iterator[str]:
    """Python's own server in a process of its own, so that loader processes are not forked beside threads."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(folder)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    port = child.stdout.readline().split(" port ")[1].split()[0]
    yield f"http://127.0.0.1:{port}"
    child.terminate()
    child.wait()
    child.stdout.close()


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_the_loader_gives_the_same_from_an_address_and_goes_on_in_the_middle(
    plain_server: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    local = shards.read(folder).splits["train"]
    far = shards.read(plain_server, cache=Cache(tmp_path)).splits["train"]
    preprocess = Preprocess(3, 8, 8)

    def batches(split: object, start: int, workers: int) -> list[tuple[int, list[int], bytes]]:
        feed = Feed(split, preprocess, ("area 0.2-1", "flip"), batch=8, seed=3, workers=workers)
        made = feed.batches(2, start)
        return [(b.position, b.labels.tolist(), b.images.contiguous().numpy().tobytes()) for b in made]

    expected = batches(local, 0, 0)
    assert sum(len(labels) for _, labels, _ in expected) == len(local)
    assert batches(far, 0, workers) == expected
    assert batches(far, 3, workers) == expected[3:]


def test_an_answer_that_was_broken_is_asked_for_again_where_it_ended(
    server: object, folder: Path, cache: Cache
) -> None:
    whole = (folder / SHARD[1:]).read_bytes()

    def answer(path: str, attempt: int) -> tuple[int, dict[str, str], bytes] | None:
        if path != SHARD or attempt > 3:
            return None
        if attempt == 1:
            return 503, {}, b""
        if attempt == 2:
            return 200, {"Content-Length": str(len(whole))}, whole[:7000]  # dies midway
        return 206, {}, whole[7000:]

    server.answer = answer
    assert second_shard(server, cache)
    assert [range_ for path, range_ in server.asked if path == SHARD] == [None, None, "bytes=7000-"]


def test_a_server_without_ranges_sends_all_of_it_again(server: object, folder: Path, cache: Cache) -> None:
    whole = (folder / SHARD[1:]).read_bytes()
    broken = 200, {"Content-Length": str(len(whole))}, whole[:7000]
    server.answer = lambda path, attempt: broken if path == SHARD and attempt == 1 else None
    assert second_shard(server, cache)
    assert [range_ for path, range_ in server.asked if path == SHARD] == [None, "bytes=7000-"]


def fault(server: object, cache: Cache) -> str:
    with pytest.raises(BadData) as caught:
        second_shard(server, cache)
    assert not isinstance(caught.value, BadImage) and "\n" not in str(caught.value)
    return str(caught.value).replace(server.url, "URL")


CASES = {
    "gone": ((404, {}, b""), "cannot be fetched: the server answers 404 Not Found; check the address", 1),
    "forbidden": ((403, {}, b""), "cannot be fetched: the server answers 403 Forbidden; check the address", 1),
    "unwell": (
        (503, {}, b""),
        "cannot be fetched: the server answers 503 Service Unavailable (4 tries); try again when the server is well",
        4,
    ),
    "cut off": (
        (200, {"Content-Length": "20480"}, b"x" * 100),
        "cannot be fetched: the connection ended after 100 of 20,480 bytes (4 tries); "
        "try again when the server is well",
        4,
    ),
    "changed": (
        (200, {}, b"x" * 20480),
        "cannot be used: its sha256 differs from the manifest's: it was changed since; write the shards again",
        2,
    ),
    "longer": (
        (200, {}, b"x" * 20481),
        "cannot be used: it has more than the 20,480 bytes of the manifest; write the shards again",
        1,
    ),
    "to a file": (
        (302, {"Location": "file:///etc/passwd"}, b""),
        "cannot be fetched: the server answers 302 Found - Redirection to url 'file:///etc/passwd' is not allowed; "
        "check the address",
        1,
    ),
    "to ftp": (
        (302, {"Location": "ftp://a.example/x.tar"}, b""),
        "cannot be used: the server redirects to ftp://a.example/x.tar, which is not followed; give its address",
        1,
    ),
}


@pytest.mark.parametrize(("answer", "text", "tries"), CASES.values(), ids=CASES)
def test_answers_that_cannot_be_used(
    server: object, cache: Cache, answer: tuple[int, dict[str, str], bytes], text: str, tries: int
) -> None:
    server.answer = lambda path, attempt: answer if path == SHARD else None
    if answer[0] == 200 and len(answer[2]) == 100:  # the last try is told from its own beginning
        server.answer = lambda path, attempt: (answer if attempt == 1 else (206, {}, b"")) if path == SHARD else None
    assert fault(server, cache) == f"URL{SHARD} {text}"
    assert sum(path == SHARD for path, _ in server.asked) == tries
    assert not [p for p in cache.folder.iterdir() if p.is_file() and p.name == hashlib.sha256(answer[2]).hexdigest()]


def test_a_redirect_by_http_is_followed(server: object, cache: Cache) -> None:
    server.answer = lambda path, attempt: (302, {"Location": "/train-000001.tar?x=1"}, b"") if path == SHARD else None
    server.file = lambda path, file=server.file: file(path.split("?")[0])
    assert second_shard(server, cache)


def test_no_manifest_no_server_and_no_answer(server: object, cache: Cache, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BadData) as caught:
        shards.read(f"{server.url}/nowhere", cache=cache)
    assert str(caught.value) == (
        f"{server.url}/nowhere/manifest.json cannot be fetched: the server answers 404 Not Found; check the address"
    )
    server.answer = lambda path, attempt: (200, {}, b"<html>")
    with pytest.raises(BadData) as caught:
        shards.read(server.url, cache=cache)
    assert str(caught.value).startswith(f"{server.url}/manifest.json is no manifest of shards: ")
    with pytest.raises(BadData) as caught:
        shards.read("http://127.0.0.1:9/set", cache=cache)
    assert str(caught.value) == (
        "http://127.0.0.1:9/set/manifest.json cannot be fetched: connection refused (4 tries); try again when the "
        "server is well"
    )
    monkeypatch.setattr(fetching, "TIMEOUT", 0.05)
    import time

    server.answer = lambda path, attempt: time.sleep(0.2)
    with pytest.raises(BadData) as caught:
        shards.read(server.url, cache=cache)
    assert str(caught.value) == (
        f"{server.url}/manifest.json cannot be fetched: no answer for 0.05 seconds (4 tries); try again when the "
        "server is well"
    )


def test_queries_are_kept_and_names_are_quoted() -> None:
    assert fetching.beside("https://a.example/b/?key=1", "train 0.tar") == "https://a.example/b/train%200.tar?key=1"
