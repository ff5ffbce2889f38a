"""Files and folders that are whole or absent."""

import errno
import json
import os
from pathlib import Path

import pytest

from convatlas import files
from convatlas.errors import SaveFailed


def fill(folder: Path) -> None:
    (folder / "a.txt").write_text("one")
    (folder / "inner").mkdir()
    (folder / "inner" / "b.bin").write_bytes(b"\0" * 1000)


def test_a_written_folder_verifies(tmp_path: Path) -> None:
    files.write_folder(tmp_path / "step", fill)
    assert files.damage(tmp_path / "step") is None
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step"]


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: (f / "a.txt").write_text("two"), "a.txt was changed: its sha256 differs"),
        (lambda f: (f / "a.txt").write_text("long"), "a.txt has 4 bytes, expected 3"),
        (lambda f: (f / "inner" / "b.bin").unlink(), "inner/b.bin is missing"),
        (lambda f: (f / files.MANIFEST).unlink(), "MANIFEST.json is missing"),
        (lambda f: (f / files.MANIFEST).write_text("{"), "MANIFEST.json cannot be read"),
        (lambda f: (f / files.MANIFEST).write_text("[]"), "MANIFEST.json cannot be read"),
        (
            lambda f: (f / files.MANIFEST).write_text('{"format": 99, "files": {}}'),
            "MANIFEST.json has format 99, this version reads 1",
        ),
    ],
)
def test_damage_is_named(tmp_path: Path, harm: object, message: str) -> None:
    files.write_folder(tmp_path / "step", fill)
    harm(tmp_path / "step")  # type: ignore[operator]
    assert files.damage(tmp_path / "step") == message


def test_a_manifest_cannot_name_files_outside(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    files.write_folder(tmp_path / "step", fill)
    manifest = json.loads((tmp_path / "step" / files.MANIFEST).read_text())
    manifest["files"]["../secret"] = files.stamp(tmp_path / "secret")
    (tmp_path / "step" / files.MANIFEST).write_text(json.dumps(manifest))
    assert files.damage(tmp_path / "step") == "../secret lies outside the folder"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_refused_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    target = tmp_path / "x.json"
    target.write_text("old")

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, refuse)
    with pytest.raises(SaveFailed) as caught:
        files.write(target, "new")
    assert str(caught.value).startswith(f"cannot write {target}: No space left on device; ")
    assert str(caught.value).endswith(" MB are free there; free some space or choose another folder")
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_a_refused_folder_leaves_the_old_one(tmp_path: Path) -> None:
    files.write_folder(tmp_path / "step", fill)

    def refuse(folder: Path) -> None:
        (folder / "part").write_text("x")
        raise OSError(errno.EIO, "Input/output error")

    with pytest.raises(SaveFailed, match="Input/output error"):
        files.write_folder(tmp_path / "step", refuse)
    assert files.damage(tmp_path / "step") is None
    assert [p.name for p in tmp_path.iterdir()] == ["step"]


def test_replacing_keeps_what_is_read_whole(tmp_path: Path) -> None:
    for text in ("first", "second"):
        files.write(tmp_path / "x", text)
        assert (tmp_path / "x").read_text() == text
    assert [p.name for p in tmp_path.iterdir()] == ["x"]
