"""Files from an http or https server: bounded in time and size, tried again where that may help, proven by their sums.

Nothing but the address that the user gave is asked, and what it redirects to by http or https.
"""

import hashlib
import http.client
import os
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import quote, urlsplit, urlunsplit

from ...errors import BadData
from ...version import __version__
from ..decoding import printable
from .manifest import Sum

TIMEOUT = 30  # seconds without a byte
PAUSES = (0.5, 2.0, 8.0)  # seconds before the second, third and fourth try
CHUNK = 2**20
PASSING = (408, 425, 429, 500, 502, 503, 504)  # answers that may be another a moment later

T = TypeVar("T")


class _Redirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> Any:
        if urlsplit(newurl).scheme not in (("https",) if req.full_url.startswith("https:") else ("http", "https")):
            fp.close()
            raise _Refused(
                f"the server redirects to {printable(newurl)[:200]}, which is not followed; give its address"
            )
        return super().redirect_request(req, fp, code, msg, headers, newurl)


class _Refused(Exception):
    """An answer that trying again does not change."""


class _Broken(Exception):
    """An answer that may be better next time."""


def beside(folder: str, name: str) -> str:
    """The address of a file in a folder's address; a query is kept."""
    parts = urlsplit(folder)
    return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{quote(name)}"))


def content(url: str, limit: int) -> bytes:
    """A small file's bytes. Raises BadData, one line with the address."""

    def once() -> bytes:
        with _opened(url, 0) as answer:
            got = bytes(answer.read(limit + 1))
            length = answer.headers.get("Content-Length")
        if len(got) > limit:
            raise _Refused(f"it is larger than {limit:,} bytes")
        if length is not None and length.isdecimal() and len(got) < int(length):
            raise _Broken(f"the connection ended after {len(got):,} of {int(length):,} bytes")
        return got

    return _tried(once, url)


def to_file(url: str, want: Sum, path: Path) -> None:
    """Streams a file to `path` and proves it; goes on where `path` already holds its beginning.

    Raises BadData, one line with the address, when it cannot be had or is not what the manifest says; OSError where
    the disk refuses.
    """
    with path.open("a+b") as file:
        damaged = 0

        def once() -> None:
            nonlocal damaged
            digest = hashlib.sha256()
            file.seek(0)
            while piece := file.read(CHUNK):
                digest.update(piece)
            if file.tell() < want.bytes:
                digest = _append(url, want, file, digest)
            if file.tell() == want.bytes and digest.hexdigest() == want.sha256:
                return
            file.truncate(0)
            damaged += 1
            what = "its sha256 differs from the manifest's: it was changed since; write the shards again"
            raise (_Broken if damaged < 2 else _Refused)(what)

        _tried(once, url)
        os.fsync(file.fileno())


def _append(url: str, want: Sum, file: IO[bytes], digest: Any) -> Any:
    """Fetches what is still missing; returns the digest over all."""
    have = file.tell()
    with _opened(url, have) as answer:
        if have and answer.status != 206:  # a server without ranges sends all of it again
            file.truncate(0)
            have, digest = 0, hashlib.sha256()
        while piece := answer.read(min(CHUNK, want.bytes - have + 1)):
            have += len(piece)
            if have > want.bytes:
                file.truncate(0)
                raise _Refused(f"it has more than the {want.bytes:,} bytes of the manifest; write the shards again")
            digest.update(piece)
            _written(file, piece)
    if have < want.bytes:
        raise _Broken(f"the connection ended after {have:,} of {want.bytes:,} bytes")
    return digest


class _Disk(Exception):
    """Carries an OSError of the disk past what is caught for the network."""


def _written(file: IO[bytes], piece: bytes) -> None:
    try:
        file.write(piece)
        file.flush()
    except OSError as error:
        raise _Disk from error


def _opened(url: str, start: int) -> Any:
    opener = urllib.request.OpenerDirector()  # neither file: nor ftp: nor data:
    for handler in (
        urllib.request.ProxyHandler(),
        urllib.request.HTTPHandler(),
        urllib.request.HTTPSHandler(),
        urllib.request.HTTPDefaultErrorHandler(),
        urllib.request.HTTPErrorProcessor(),
        _Redirects(),
    ):
        opener.add_handler(handler)
    asked = urllib.request.Request(url, headers={"User-Agent": f"convatlas/{__version__}"})
    if start:
        asked.add_header("Range", f"bytes={start}-")
    return opener.open(asked, timeout=TIMEOUT)


def _tried(once: Callable[[], T], url: str) -> T:
    for pause in (*PAUSES, None):
        try:
            return once()
        except _Disk as error:
            raise error.__cause__ or error from None
        except _Refused as error:
            raise BadData(f"{printable(url)} cannot be used: {error}") from None
        except urllib.error.HTTPError as error:
            error.close()
            reason = f"the server answers {error.code} {printable(str(error.reason))}".strip()
            if error.code not in PASSING:
                raise BadData(f"{printable(url)} cannot be fetched: {reason}; check the address") from None
        except (_Broken, OSError, http.client.HTTPException, ValueError) as error:
            reason = _reason(error)
        if pause is not None:
            time.sleep(pause)
    raise BadData(
        f"{printable(url)} cannot be fetched: {reason} ({len(PAUSES) + 1} tries); try again when the server is well"
    )


def _reason(error: Exception) -> str:
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, TimeoutError):
        return f"no answer for {TIMEOUT:g} seconds"
    if isinstance(cause, http.client.IncompleteRead):
        return "the connection ended early"
    text = (cause.strerror if isinstance(cause, OSError) else None) or str(cause)
    return printable(" ".join(text.split()))[:160].lower()
