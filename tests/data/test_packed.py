"""Packed sets: the same images, the same bad files, the same bytes at the input; and damage in one line."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from convatlas import files
from convatlas.data import Preprocess, open_data, packed
from convatlas.data.packed import is_packed, pack, reduced
from convatlas.errors import BadData, BadImage, SaveFailed, UsageError


def photo(width: int, height: int, seed: int, mode: str = "RGB") -> Image.Image:
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8), mode)


def photos(folder: Path, mode: str = "RGB") -> Path:
    """Sizes above and below 32 on either side, EXIF, transparency, two bad files."""
    for role, n in (("train", 6), ("validation", 2), ("test", 2)):
        for c, name in enumerate(("cat", "dog")):
            (folder / role / name).mkdir(parents=True)
            for i in range(n):
                photo(20 + 13 * i, 70 - 9 * i, 100 * c + i, mode).save(folder / role / name / f"{i}.png")
    turned = Image.Exif()
    turned[0x0112] = 6
    photo(80, 40, 7, mode).save(folder / "train/cat/turned.jpg", exif=turned)
    photo(50, 60, 8, "L").convert("LA").save(folder / "train/dog/clear.png")
    (folder / "train/cat/0bad.png").write_bytes(b"nothing")
    (folder / "test/dog/gone.png").symlink_to("nowhere")
    return folder


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return photos(tmp_path_factory.mktemp("photos") / "set")


@pytest.fixture(scope="module")
def made(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packs") / "pack"
    pack(open_data(source), out, 32)
    return out


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_pack_holds_what_torchvision_would_resize(tmp_path: Path, mode: str) -> None:
    from torchvision.transforms import Resize

    data = open_data(photos(tmp_path / "set", mode))
    pack(data, tmp_path / "pack", 32)
    read = open_data(tmp_path / "pack")
    assert read.classes == data.classes and list(read.splits) == list(data.splits) and read.channels == data.channels
    assert data.channels == (3 if mode == "RGB" else 1)
    for role, split in data.splits.items():
        other = read.splits[role]
        assert np.array_equal(other.labels, split.labels)
        for i in range(len(split)):
            try:
                given = split.picture(i, data.channels)
            except BadImage:
                continue
            expected = given if min(given.size) <= 32 else Resize(32)(given)
            assert np.array_equal(other.given(i), np.asarray(expected))


def test_turned_photos_lie_upright(source: Path, made: Path) -> None:
    split = open_data(made).splits["train"]
    (at,) = [i for i in range(len(split)) if split.named(i).endswith("turned.jpg")]
    upright = ImageOps.exif_transpose(Image.open(source / "train/cat/turned.jpg"))
    assert upright.size == (40, 80)
    assert np.array_equal(split.given(at), np.asarray(reduced(upright, 32)))


def test_bad_files_keep_their_place_and_reason(source: Path, made: Path) -> None:
    data, read = open_data(source), open_data(made)
    seen = []
    for role, split in data.splits.items():
        assert read.splits[role].labels.tolist() == split.labels.tolist()
        for i in range(len(split)):
            try:
                split.picture(i, 3)
            except BadImage as error:
                reason = str(error).removeprefix(f"{split.named(i)}: ")
                name = read.splits[role].named(i)
                with pytest.raises(BadImage) as caught:
                    read.splits[role].picture(i, 3)
                assert str(caught.value) == f"{name}: {reason}"
                seen.append(name)
    assert seen == [f"{made}/train/cat/0bad.png", f"{made}/test/dog/gone.png"]
    assert read.warnings == ("2 images could not be decoded when it was packed and count as bad files",)
    listed = json.loads((made / "index.json").read_text())["bad"]
    assert [(entry["split"], entry["name"]) for entry in listed] == [
        ("train", str(source / "train/cat/0bad.png")),
        ("test", str(source / "test/dog/gone.png")),
    ]


def test_the_rule_and_the_source_are_told(source: Path, made: Path) -> None:
    data, read = open_data(source), open_data(made)
    assert read.rule == "train, validation and test as given; packed with the shorter side at most 32"
    index = json.loads((made / "index.json").read_text())
    for role, split in data.splits.items():
        assert index["splits"][role] == {"images": len(split), "source_digest": split.digest()}
    assert index["side"] == 32 and index["source"] == str(source)
    split = read.splits["train"]
    assert split.stored is not None and data.splits["train"].stored is not None
    assert [split.stored.key(i) for i in range(4)] == [data.splits["train"].stored.key(i) for i in range(4)]


def test_an_input_of_the_packs_side_gets_the_same_bytes(source: Path, made: Path) -> None:
    preprocess = Preprocess(3, 28, 28, "crop", crop=0.875)  # 28 / 0.875 = 32
    data, read = open_data(source), open_data(made)
    compared = 0
    for role, split in data.splits.items():
        for i in range(len(split)):
            try:
                picture = split.picture(i, 3)
            except BadImage:
                continue
            assert np.array_equal(preprocess.array(read.splits[role].picture(i, 3)), preprocess.array(picture))
            compared += 1
    assert compared == 22


def test_a_crop_comes_straight_from_the_pixels(made: Path) -> None:
    split = open_data(made).splits["train"]
    whole = np.asarray(split.picture(3, 3))
    cut = split.cut(3, 3, lambda width, height: (2, 1, width - 3, height - 4), (5, 5))
    assert np.array_equal(np.asarray(cut), whole[1:-4, 2:-3])


def test_it_travels_to_other_processes(made: Path) -> None:
    split = open_data(made).splits["train"]
    split.given(3)
    sent = pickle.dumps(split)
    assert len(sent) < 10_000  # not the pixels
    again = pickle.loads(sent)
    assert np.array_equal(again.given(3), split.given(3)) and again.named(3) == split.named(3)
    given = split.given(3)
    assert isinstance(given, np.ndarray) and not given.flags.writeable


def test_folds_and_parts_of_a_pack(source: Path, made: Path) -> None:
    def names(folder: Path, root: Path) -> list[list[str]]:
        data = open_data(folder, fold=(2, 3))
        return [[s.named(i).removeprefix(str(root)) for i in range(len(s))] for s in data.splits.values()]

    assert names(made, made) == names(source, source)


def test_sets_in_memory_are_packed_too(tmp_path: Path) -> None:
    data = open_data("digits")
    pack(data, tmp_path / "pack", 6)
    read = open_data(tmp_path / "pack")
    assert read.channels == 1 and read.classes == data.classes
    split, images = read.splits["test"], data.splits["test"].images
    assert images is not None
    assert np.array_equal(
        split.given(5), np.asarray(Image.fromarray(images[5]).resize((6, 6), Image.Resampling.BILINEAR))
    )
    assert split.named(5) == f"{tmp_path / 'pack'}/test/5"


def test_progress_counts_every_image(source: Path, tmp_path: Path) -> None:
    said: list[tuple[int, int]] = []
    pack(open_data(source), tmp_path / "pack", 32, lambda done, total: said.append((done, total)))
    assert said == [(i, 24) for i in range(1, 25)]


@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 300))
def test_reduced_sizes_are_those_of_torchvision(width: int, height: int, side: int) -> None:
    from torchvision.transforms.functional import _compute_resized_output_size

    size = reduced(Image.new("L", (width, height)), side).size
    if min(width, height) <= side:
        assert size == (width, height)
    else:
        assert list(size[::-1]) == _compute_resized_output_size((height, width), [side])


def test_what_cannot_be_packed(source: Path, tmp_path: Path) -> None:
    data = open_data(source)
    with pytest.raises(UsageError) as caught:
        pack(data, tmp_path / "p", 0)
    assert str(caught.value) == "side is 0; give the shorter side of the packed images in pixels, 1 or more"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.txt").write_text("mine")
    with pytest.raises(UsageError) as caught:
        pack(data, tmp_path / "mine", 32)
    assert str(caught.value) == f"{tmp_path / 'mine'} exists and is no packed set; choose another folder"
    assert (tmp_path / "mine/thesis.txt").read_text() == "mine"
    with pytest.raises(UsageError) as caught:
        pack(data, source / "packed", 32)
    assert str(caught.value) == f"{source / 'packed'} lies in the set itself, {source}; choose a folder outside"
    assert not (source / "packed").exists()


def test_a_full_disk_or_a_kill_leaves_the_old_pack(
    source: Path, made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(made, tmp_path / "pack")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def stop(done: int, total: int) -> None:
        if done == 10:
            raise KeyboardInterrupt

    before = {p.name: p.read_bytes() for p in (tmp_path / "pack").iterdir()}
    with pytest.raises(KeyboardInterrupt):
        pack(open_data(source), tmp_path / "pack", 16, stop)
    monkeypatch.setattr(packed, "_pixels", full)
    with pytest.raises(SaveFailed, match=r"^cannot write .*pack: No space left on device; .* are free there; "):
        pack(open_data(source), tmp_path / "pack", 16)
    assert {p.name: p.read_bytes() for p in (tmp_path / "pack").iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["pack"]
    monkeypatch.undo()
    pack(open_data(source), tmp_path / "pack", 16)
    assert open_data(tmp_path / "pack").rule.endswith("at most 16")


def refusal(folder: Path) -> str:
    with pytest.raises(BadData) as caught:
        open_data(folder)
    assert caught.value.exit_code == 3
    said = str(caught.value)
    assert said.isprintable()
    return said.removeprefix(f"{folder} is a damaged packed set: ").removesuffix("; pack it again")


def test_damage_is_named(made: Path, tmp_path: Path) -> None:
    def copy(name: str) -> Path:
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        return Path(shutil.copytree(made, tmp_path / name))

    for name in ("index.json", "MANIFEST.json", "train.sizes", "train.names.json", "train.pixels", "test.pixels"):
        folder = copy("gone")
        (folder / name).unlink()
        assert refusal(folder) == f"{name} is missing"
        folder = copy("short")
        content = (folder / name).read_bytes()
        (folder / name).write_bytes(content[:-1])
        short = f"{name} has {len(content) - 1} bytes, expected {len(content)}"
        assert refusal(folder) == ("MANIFEST.json cannot be read" if name == "MANIFEST.json" else short)
        if name.endswith((".sizes", ".names.json", "index.json")):
            (folder / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
            assert refusal(folder) == f"{name} was changed: its sha256 differs"
    folder = copy("linked")
    (folder / "train.pixels").rename(tmp_path / "elsewhere")
    (folder / "train.pixels").symlink_to(tmp_path / "elsewhere")
    assert refusal(folder) == "train.pixels is missing"


def index(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        content = json.loads((folder / "index.json").read_text())
        change(content)
        (folder / "index.json").write_text(json.dumps(content))

    return apply


def sizes(row: int, column: int, value: int) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        table = np.fromfile(folder / "train.sizes", "<i4").reshape(-1, 3)
        table[row, column] = value
        (folder / "train.sizes").write_bytes(table.tobytes())

    return apply


NOT_SO = "index.json is not as it was written"
IMPOSSIBLE = "train.sizes has labels or sizes that cannot be"


@pytest.mark.parametrize(
    "change, said",
    [
        (index(lambda i: i.update(format=2)), "index.json has format 2, this version reads 1"),
        (index(lambda i: i.pop("classes")), NOT_SO),
        (index(lambda i: i.update(classes=7)), NOT_SO),
        (index(lambda i: i.update(classes=["a", "a"])), "index.json gives no two different class names"),
        (index(lambda i: i.update(classes=["a", "b\n"])), "index.json gives no two different class names"),
        (index(lambda i: i.update(channels=2)), "index.json says 2 channels"),
        (index(lambda i: i.update(channels="3")), "index.json says 3 channels"),
        (index(lambda i: i.update(splits={})), "index.json names no split"),
        (index(lambda i: i.update(splits={"../train": {}})), "index.json names no split"),
        (index(lambda i: i.update(splits=[])), "index.json names no split"),
        (
            index(lambda i: i["splits"]["train"].update(images=10**12)),
            "train.sizes does not hold 1,000,000,000,000 images",
        ),
        (index(lambda i: i["splits"]["train"].update(images=-1)), NOT_SO),
        (index(lambda i: i["splits"]["train"].update(images=True)), NOT_SO),
        (index(lambda i: i.update(bad=[{"split": "train"}])), NOT_SO),
        (sizes(3, 0, -5), IMPOSSIBLE),
        (sizes(3, 0, 2**31 - 1), IMPOSSIBLE),
        (sizes(3, 0, 0), IMPOSSIBLE),
        (sizes(3, 2, 2), IMPOSSIBLE),
        (sizes(3, 2, -1), IMPOSSIBLE),
        (lambda f: (f / "train.names.json").write_text("[]"), "train.names.json does not name 15 images"),
        (lambda f: (f / "train.names.json").write_text("{}"), NOT_SO),
        (lambda f: (f / "index.json").write_text('{"what": "convatlas packed images", ' + '"a":[' * 5000), None),
    ],
)
def test_hostile_packs_with_right_sums(made: Path, tmp_path: Path, change: Any, said: str | None) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "pack"))
    change(folder)
    (folder / files.MANIFEST).unlink()
    names = sorted(p.name for p in folder.iterdir())
    (folder / files.MANIFEST).write_text(
        json.dumps({"format": 1, "files": {n: files.stamp(folder / n) for n in names}})
    )
    found = refusal(folder)
    assert said is None or found == said


def test_a_size_that_does_not_fit_the_pixels(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "pack"))
    before = np.fromfile(folder / "train.sizes", "<i4").reshape(-1, 3).astype(np.int64)
    total = int((before[:, 0] * before[:, 1]).sum() * 3)
    sizes(3, 0, int(before[3, 0]) + 1)(folder)
    manifest = json.loads((folder / files.MANIFEST).read_text())
    manifest["files"]["train.sizes"] = files.stamp(folder / "train.sizes")
    (folder / files.MANIFEST).write_text(json.dumps(manifest))
    assert refusal(folder) == f"train.pixels does not hold the {total + 3 * int(before[3, 1]):,} bytes of its images"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(data=st.data())
def test_any_flipped_byte_of_the_small_files_is_refused(made: Path, tmp_path: Path, data: st.DataObject) -> None:
    folder = tmp_path / "pack"
    if not folder.exists():
        shutil.copytree(made, folder)
    name = data.draw(st.sampled_from(["index.json", "train.sizes", "validation.names.json", "MANIFEST.json"]))
    content = bytearray((made / name).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    (folder / name).write_bytes(content)
    try:
        open_data(folder)
        assert name == "MANIFEST.json"  # white space, its own version, or the name of a file that is not needed
    except BadData as error:
        assert str(error).isprintable()
    (folder / name).write_bytes((made / name).read_bytes())


def test_other_folders_are_no_packs(tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text('{"what": "something else"}')
    assert not is_packed(tmp_path)
    (tmp_path / "index.json").unlink()
    assert not is_packed(tmp_path)
