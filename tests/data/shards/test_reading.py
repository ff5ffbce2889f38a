"""Shards that others wrote, and ours read by others."""

import io
import json
import tarfile
import tracemalloc
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convatlas.data import Data, shards
from convatlas.data.shards import manifest
from convatlas.errors import BadData


def png(value: int, mode: str = "RGB") -> bytes:
    out = io.BytesIO()
    Image.new(mode, (4, 3), value).save(out, "PNG")
    return out.getvalue()


def tar(path: Path, entries: Iterable[tuple[str, bytes]], form: int = tarfile.GNU_FORMAT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as file:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def labelled(*labels: str | bytes, extension: str = "cls") -> list[tuple[str, bytes]]:
    texts = [label.encode() if isinstance(label, str) else label for label in labels]
    return [e for i, t in enumerate(texts) for e in ((f"{i:04}.png", png(i)), (f"{i:04}.{extension}", t))]


def named(split: object) -> list[str]:
    return [split.classes[n] for n in split.labels]


CONVENTIONS = {
    "cls names": labelled("dog", "cat\n"),
    "txt": labelled("dog", "cat", extension="txt"),
    "json label": labelled('{"label": "dog"}', '{"label": "cat", "x": 1}', extension="json"),
    "json class": labelled('{"class": "dog", "label": 1}', '{"class": "cat", "label": 0}', extension="json"),
    "json alone": labelled('"dog"', '"cat"', extension="json"),
    "folders in the key": [("a/b.c/0.png", png(0)), ("a/b.c/0.cls", b"dog"), ("../up/1.jpg", png(1)),
                           ("../up/1.cls", b"cat")],
    "more beside": [
        ("./0.json", b'{"caption": "a dog"}'), ("./0.png", png(0)), ("./0.txt", b"dog"), ("./0.seg.png", png(9)),
        ("README", b"x"), ("1.png", png(1)), ("1.cls", b"cat"), ("2.cls", b"alone"),
    ],
    "long names": [(f"{'x' * 150}{i}.{e}", c) for i, n in enumerate((b"dog", b"cat"))
                   for e, c in (("PNG", png(i)), ("cls", n))],
}  # fmt: skip


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["gnu", "pax"])
@pytest.mark.parametrize("entries", CONVENTIONS.values(), ids=CONVENTIONS)
def test_conventions_of_labels(tmp_path: Path, entries: list[tuple[str, bytes]], form: int) -> None:
    tar(tmp_path / "0.tar", entries, form)
    found = shards.read(tmp_path)
    assert found.classes == ("cat", "dog") and found.channels == 3 and list(found.splits) == [""]
    assert named(found.splits[""]) == ["dog", "cat"]
    assert [found.splits[""].picture(i, 1).getpixel((0, 0)) for i in (0, 1)] == [
        Image.open(io.BytesIO(png(i))).convert("L").getpixel((0, 0)) for i in (0, 1)
    ]


def test_numbers_are_names_in_the_order_of_numbers_or_count_the_lines_of_a_list(tmp_path: Path) -> None:
    tar(tmp_path / "train-0.tar", labelled("10", "2", "2"))
    tar(tmp_path / "test-0.tar", labelled("10"))
    found = shards.read(tmp_path)
    assert found.classes == ("2", "10") and found.rule == "2 shards: train, test"
    assert found.splits["train"].labels.tolist() == [1, 0, 0] and found.splits["test"].labels.tolist() == [1]
    (tmp_path / "classnames.txt").write_text("".join(f"n{i}\n" for i in range(12)))
    assert named(shards.read(tmp_path).splits["train"]) == ["n10", "n2", "n2"]
    (tmp_path / "classnames.txt").write_text("a\nb\n")
    with pytest.raises(BadData) as caught:
        shards.read(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/classnames.txt has 2 lines; labels go to 10, so give 11 different class names, one a line"
    )
    (tmp_path / "classnames.txt").write_text("a\na\n")
    with pytest.raises(BadData) as caught:
        shards.read(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/classnames.txt has empty or equal lines; give different class names, one a line"
    )


@pytest.mark.parametrize(
    "names",
    [
        ("train/0.tar", "validation/0.tar", "test/a.tar"),
        ("train-000000.tar", "val-000000.tar", "test-000000.tar"),
        ("imagenet1k-train-0000.tar", "imagenet1k-validation-00.tar", "imagenet1k-test-00.tar"),
    ],
)
def test_splits_by_folder_or_name_and_labels_matched_by_name(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name, labels in zip(names, (("b", "a", "c"), ("c", "a"), ("b",)), strict=True):
        tar(tmp_path / name, labelled(*labels))
    assert shards.is_shards(tmp_path)
    found = shards.read(tmp_path)
    assert {name: named(split) for name, split in found.splits.items()} == {
        "train": ["b", "a", "c"], "validation": ["c", "a"], "test": ["b"],
    }  # fmt: skip


def test_what_is_shards_and_what_is_not(tmp_path: Path, folder: Path, photos: Path) -> None:
    assert shards.is_shards(folder) and shards.is_shards(str(folder)) and shards.is_shards("https://a.example/set")
    assert not shards.is_shards(photos) and not shards.is_shards(tmp_path / "none") and not shards.is_shards("digits")
    assert not shards.is_shards(tmp_path)
    (tmp_path / "manifest.json").write_text('{"files": {}}')
    assert not shards.is_shards(tmp_path)
    one = tar(tmp_path / "one.tar", labelled("a", "b"))
    assert shards.is_shards(tmp_path) and shards.is_shards(one) and len(shards.read(one).splits[""]) == 2
    (tmp_path / "cat").mkdir()  # a folder of class folders with a backup beside them
    assert not shards.is_shards(tmp_path)


def test_by_headers_as_by_manifest(folder: Path, tmp_path: Path) -> None:
    for path in (*folder.glob("*.tar"), folder / "classes.txt"):
        (tmp_path / path.name).symlink_to(path)
    ours, scanned = shards.read(folder), shards.read(tmp_path)
    assert (ours.classes, ours.channels) == (scanned.classes, scanned.channels)
    for name, split in ours.splits.items():
        other = scanned.splits[name]
        assert split.labels.tolist() == other.labels.tolist()
        assert [split.given(i) for i in range(len(split))] == [other.given(i) for i in range(len(split))]
        assert [split.stored.key(i) for i in range(len(split))] == [other.stored.key(i) for i in range(len(split))]


def fault(tmp_path: Path) -> str:
    with pytest.raises(BadData) as caught:
        shards.read(tmp_path)
    return str(caught.value).replace(f"{tmp_path}/", "").replace(str(tmp_path), "FOLDER")


LABEL = (
    "; beside an image lies .cls or .txt with its class, a name or a number on one line, or .json with "
    '"label" or "class"'
)


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        ([("0.png", b"")], f"a.tar: 0 has no label{LABEL}"),
        ([("0.png", b""), ("0.cls", b" \n")], f"a.tar: 0 has a .cls without a label{LABEL}"),
        ([("0.png", b""), ("0.cls", b"a\nb")], f"a.tar: 0 has a .cls without a label{LABEL}"),
        ([("0.png", b""), ("0.cls", b"\xff")], f"a.tar: 0 has a .cls without a label{LABEL}"),
        ([("0.png", b""), ("0.json", b"[" * 9999)], f"a.tar: 0 has a .json without a label{LABEL}"),
        ([("0.png", b""), ("0.json", b'{"label": true}')], f"a.tar: 0 has a .json without a label{LABEL}"),
        ([("0.png", b""), ("0.json", b'{"label": "\\ud800"}')], f"a.tar: 0 has a .json without a label{LABEL}"),
        ([("0.png", b""), ("0.txt", bytes(2**20 + 1))],
         f"a.tar: 0 has a .txt of 1,048,577 bytes, too long for a label{LABEL}"),
        (
            [("0.png", b""), ("0.jpg", b"")],
            "a.tar: 0 has two images, .jpg and .png; keep one, or name the other with an extension that is no image's",
        ),
        (labelled("a"), "FOLDER has one class, 'a'; a classifier needs two or more"),
        ([("README.md", b"")], "the shards of FOLDER hold no image with a label"),
    ],
)  # fmt: skip
def test_samples_that_cannot_be_used(tmp_path: Path, entries: list[tuple[str, bytes]], text: str) -> None:
    tar(tmp_path / "a.tar", entries)
    assert fault(tmp_path) == text


def test_folders_that_cannot_be_used(tmp_path: Path) -> None:
    tar(tmp_path / "train-0.tar", labelled("a", "b"))
    tar(tmp_path / "val-0.tar", labelled("c"))
    assert fault(tmp_path) == (
        "class 'c' of the validation split is missing in train of FOLDER; labels are matched by name, so rename or "
        "remove it"
    )
    tar(tmp_path / "more.tar", labelled("a"))
    assert fault(tmp_path) == (
        "more.tar names no split and train-0.tar does; begin every shard's name with train-, validation- or test-"
    )
    tar(tmp_path / "test/0.tar", labelled("a"))
    assert fault(tmp_path) == "more.tar lies beside split folders with shards; move it into one of them"
    for path in tmp_path.glob("*.tar"):
        path.unlink()
    for name in ("val", "valid"):
        tar(tmp_path / name / "0.tar", labelled("a"))
    assert fault(tmp_path) == "FOLDER holds both val and valid; keep one validation folder"


def changed(folder: Path, tmp_path: Path) -> Path:
    out = tmp_path / "set"
    out.mkdir()
    for path in folder.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    return out


def test_damaged_manifests(folder: Path, tmp_path: Path) -> None:
    out = changed(folder, tmp_path)
    good = json.loads((out / "manifest.json").read_text())

    def with_(**fields: object) -> str:
        (out / "manifest.json").write_text(json.dumps(good | fields))
        return fault(out)

    assert with_(format=2) == "manifest.json has format 2, this version reads 1; update convatlas"
    assert with_(channels="x") == "manifest.json is no manifest of shards: Expected `int`, got `str` - at `$.channels`"
    part = good["splits"]["train"]
    for name in ("../x.tar", "/x.tar", "a/../x.tar", "a\\x.tar", "C:x.tar"):
        shard = part["shards"][0] | {"name": name}
        assert with_(splits={"train": part | {"shards": [shard]}}) == (
            f"manifest.json names {name!r}, which lies outside its folder; write the shards again"
        )
    assert with_(splits={"train": part | {"shards": part["shards"][:1]}}) == (
        "train.index.safetensors does not fit its manifest; write the shards again"
    )
    (out / "manifest.json").write_text(json.dumps(good))
    index = out / "train.index.safetensors"
    content = index.read_bytes()
    index.write_bytes(content[:-1] + b"\x7f")
    assert fault(out) == (
        "train.index.safetensors was changed: its sha256 differs from the manifest's; write the shards again"
    )
    index.write_bytes(content)
    with (out / "test-000000.tar").open("ab") as file:
        file.write(b"x")
    assert fault(out) == ("test-000000.tar has 20,481 bytes, its manifest says 20,480; fetch or write it again")
    (out / "test-000000.tar").unlink()
    assert fault(out) == "test-000000.tar is missing; its manifest lists it, so fetch or write it again"


def test_an_index_of_a_million_images_stays_small() -> None:
    n, per = 10**6, 10_000
    columns = {name: np.arange(n) % 7 for name in manifest.COLUMNS}
    content = manifest.packed(columns)
    assert len(content) < 16 * n + 1000
    import hashlib

    index = manifest.Sum("i", len(content), hashlib.sha256(content).hexdigest())
    part = manifest.Part(index, tuple(manifest.Shard(f"{i}", per, 10**9, "x") for i in range(n // per)))
    found = manifest.Manifest(manifest.KIND, 1, "x", tuple("abcdefg"), 3, "", "", {"train": part})
    tracemalloc.start()
    split = shards.reading._by_manifest(found, shards.stored.Local(Path()), lambda _: content).splits["train"]
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(split) == n and kept < 25 * n and peak < 60 * n
    stored = split.stored
    assert sum(c.nbytes for c in (stored.shard, stored.block, stored.size, stored.crc)) == 16 * n
    tracemalloc.start()
    part_ = stored.order(1).part(500_000, 500_256)
    assert len(part_) == 256 and tracemalloc.get_traced_memory()[1] < 8 * n
    tracemalloc.stop()


def test_the_webdataset_library_reads_ours(data: Data, folder: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed: its second opinion is missing")
    found = shards.read(folder)
    for name, split in found.splits.items():
        urls = sorted(str(p) for p in folder.glob(f"{name}-*.tar"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8").to_tuple("jpg;png", "cls"))
        assert [int(label) for _, label in theirs] == split.labels.tolist()
        for i, (pixels, _) in enumerate(theirs):
            assert np.array_equal(pixels, np.asarray(split.picture(i, 3)))


def test_we_read_what_the_webdataset_library_writes(tmp_path: Path) -> None:
    webdataset = pytest.importorskip("webdataset", reason="webdataset is not installed: its second opinion is missing")
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (9, 5, 6, 3), np.uint8)
    for name, part in (("train", range(6)), ("val", range(6, 9))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with webdataset.ShardWriter(str(tmp_path / f"{name}-%06d.tar"), maxcount=2, verbose=0) as sink:
                for i in part:
                    sink.write({"__key__": f"s{i:03}", "png": images[i], "cls": i % 3, "json": {"label": i % 3}})
    found = shards.read(tmp_path)
    assert found.classes == ("0", "1", "2") and found.rule == "5 shards: train, validation"
    for split, part in zip(found.splits.values(), (range(6), range(6, 9)), strict=True):
        assert split.labels.tolist() == [i % 3 for i in part]
        for k, i in enumerate(part):
            assert np.array_equal(np.asarray(split.picture(k, 3)), images[i])
