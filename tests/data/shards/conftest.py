"""A small set of coloured images in files, its shards, and a server that can misbehave."""

import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convatlas.data import Data, open_data, shards


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three classes, 20 images each, JPEG and PNG, of 12x10 pixels."""
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for name in ("cat", "dog", "eel"):
        (root / name).mkdir()
        for i in range(20):
            image = Image.fromarray(random.integers(0, 256, (12, 10, 3), np.uint8))
            image.save(root / name / f"{i:02}.{'jpg' if i % 2 else 'png'}")
    return root


@pytest.fixture(scope="session")
def data(photos: Path) -> Data:
    return open_data(photos)


@pytest.fixture(scope="session")
def folder(data: Data, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The set as shards of a few images each."""
    out = tmp_path_factory.mktemp("shards") / "set"
    shards.write(data, out, size=20_480)
    return out


class Server:
    """Serves a folder; `answer(path, attempt)` may give a status, headers and bytes instead."""

    def __init__(self, root: Path):
        self.root = root
        self.asked: list[tuple[str, str | None]] = []
        self.answer: Callable[[str, int], tuple[int, dict[str, str], bytes] | None] = lambda path, attempt: None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append((self.path, self.headers.get("Range")))
                attempt = sum(path == self.path for path, _ in outer.asked)
                status, headers, body = outer.answer(self.path, attempt) or outer.file(self.path)
                self.send_response(status)
                for name, value in ({"Content-Length": str(len(body))} | headers).items():
                    self.send_header(name, value)
                self.end_headers()
                with suppress(BrokenPipeError, ConnectionResetError):  # the reader has seen enough
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def file(self, path: str) -> tuple[int, dict[str, str], bytes]:
        place = self.root / path.lstrip("/")
        return (200, {}, place.read_bytes()) if place.is_file() else (404, {}, b"")

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(shards.fetching, "PAUSES", (0.0, 0.0, 0.0))
    made = Server(folder)
    yield made
    made.close()
