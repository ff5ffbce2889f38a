"""Headers of tar files: whole ones as tarfile reads them, damaged ones named, never cut short without a word."""

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convatlas.data.shards.scanning import Tar
from convatlas.errors import BadData


def packed(form: int, entries: list[tuple[str, bytes]]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as file:
        folder = tarfile.TarInfo("folder")
        folder.type = tarfile.DIRTYPE
        file.addfile(folder)
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    return out.getvalue()


def scanned(path: Path, content: bytes) -> list[tuple[str, bytes]]:
    path.write_bytes(content)
    with Tar(path) as tar:
        return [(e.name, tar.read(e.offset, e.size)) for e in tar.entries()]


NAMES = st.text("abc/äé猫.", min_size=1, max_size=130).filter(lambda n: n.strip("/") == n and "//" not in n)
ENTRIES = st.lists(st.tuples(NAMES, st.binary(max_size=1500)), max_size=6)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ENTRIES, st.sampled_from([tarfile.GNU_FORMAT, tarfile.PAX_FORMAT]))
def test_regular_entries_as_tarfile_reads_them(tmp_path: Path, entries: list[tuple[str, bytes]], form: int) -> None:
    assert scanned(tmp_path / "a.tar", packed(form, entries)) == entries


WHOLE = packed(tarfile.USTAR_FORMAT, [("a.jpg", b"a" * 700), ("b.jpg", b"b" * 10), ("c.jpg", b"c" * 1024)])


@pytest.mark.parametrize("end", range(0, 5 * 512 + 1, 128))
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, end: int) -> None:
    path = tmp_path / "a.tar"
    with pytest.raises(BadData) as caught:
        scanned(path, WHOLE[:end])
    if 1024 <= end < 1024 + 700:
        assert str(caught.value) == f"{path}: a.jpg is cut off; fetch or write the shard again"
    elif end < 512:
        assert str(caught.value) == f"{path} is cut off after its first byte; fetch or write it again"
    elif end == 2048:
        assert str(caught.value) == f"{path} is cut off after a.jpg; fetch or write it again"


def test_a_damaged_header_in_the_middle_is_refused(tmp_path: Path) -> None:
    path, content = tmp_path / "a.tar", bytearray(WHOLE)
    content[2048 + 5] ^= 1  # of b.jpg
    with pytest.raises(BadData) as caught:
        scanned(path, bytes(content))
    assert str(caught.value) == f"{path} is damaged after a.jpg; fetch or write it again"
    with tarfile.open(path) as file:
        assert len(file.getnames()) == 2  # tarfile would have lost two images without a word


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=30))
def test_garbage_ends_in_one_line(tmp_path: Path, at: int, garbage: bytes) -> None:
    try:
        scanned(tmp_path / "a.tar", WHOLE[:at] + garbage + WHOLE[at + len(garbage) :])
    except BadData as error:
        assert "\n" not in str(error)


@pytest.mark.parametrize("record", [b"x", b"0 path=a\n", b"99 path=a\n", b"11 path\n", b"-3 a=b\n", b"13 size=-99\n"])
def test_damaged_extended_headers(tmp_path: Path, record: bytes) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, len(record)
    content = info.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0") + WHOLE
    try:
        found = scanned(tmp_path / "a.tar", content)
    except BadData as error:
        assert str(error) == f"{tmp_path}/a.tar is damaged after its first byte; fetch or write it again"
    else:
        assert len(found) == 3


def test_compressed_shards(tmp_path: Path) -> None:
    path = tmp_path / "a.tar.gz"
    with pytest.raises(BadData) as caught:
        scanned(path, b"\x1f\x8b\x08" + bytes(2000))
    assert str(caught.value) == f"{path} is compressed, so images cannot be read from its middle; gunzip it"
