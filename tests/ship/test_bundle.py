"""Bundles: what is in them, that they answer like their run, and that a changed one is refused."""

import json
import os
import pickle
import shutil
import subprocess
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import torch

from convatlas import classifier
from convatlas.data import open_data
from convatlas.errors import BadBundle, BadData, UsageError
from convatlas.files import sha256
from convatlas.ship import export, replay
from convatlas.ship.bundle import classes_text, differences

Change = Callable[[Path], object]


def seal(bundle: Path) -> None:
    """SHA256SUMS anew, as somebody would write it who changes a bundle on purpose."""
    names = sorted(
        p.relative_to(bundle).as_posix() for p in bundle.rglob("*") if p.is_file() and p.name != "SHA256SUMS"
    )
    (bundle / "SHA256SUMS").write_text("".join(f"{sha256(bundle / n)}  {n}\n" for n in names))


def edit_json(file: Path, change: Callable[[dict], object]) -> None:
    record = json.loads(file.read_text())
    change(record)
    file.write_text(json.dumps(record))


@pytest.fixture
def copy(digits_bundle: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(digits_bundle, tmp_path / "bundle"))


def test_a_bundle_holds_what_the_design_lists(digits_bundle: Path) -> None:
    names = {p.relative_to(digits_bundle).as_posix() for p in digits_bundle.rglob("*") if p.is_file()}
    pictures = {n for n in names if n.startswith("replay/")}
    assert names - pictures == {
        "model.safetensors",
        "config.json",
        "classes.txt",
        "replay.json",
        "README.md",
        "SHA256SUMS",
    }
    assert 8 <= len(pictures) <= 16


def test_sha256sum_checks_every_file(digits_bundle: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "-c", "--strict", "SHA256SUMS"], cwd=digits_bundle, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    checked = {line.removesuffix(": OK") for line in done.stdout.splitlines()}
    files = {p.relative_to(digits_bundle).as_posix() for p in digits_bundle.rglob("*") if p.is_file()}
    assert checked == files - {"SHA256SUMS"}


def test_logits_of_a_bundle_equal_the_runs(digits_run: Path, digits_bundle: Path) -> None:
    run, bundle = classifier.load(digits_run), replay(digits_bundle)
    images = list(open_data("digits").splits["test"].images[:20])
    from PIL import Image

    arrays = [run.spec.preprocess.array(Image.fromarray(i)) for i in images]
    assert torch.equal(run.logits(arrays), bundle.logits(arrays))
    assert run.spec == bundle.spec


def test_classes_stand_in_the_order_of_the_logits(make: Callable[..., Path], tmp_path: Path) -> None:
    names = ["zwei", "eins", "三", "null <b>&|*x*", "vier", "fünf", "sechs", "sieben", "acht", "9"]
    run = make(classes=names)
    spec = classifier.load(run).spec
    assert classes_text(spec.classes) == "".join(f"{n}\n" for n in names)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("two\nlines", "class name 'two\\nlines' is no single line, but classes.txt holds one class a line; "),
        ("return\r", "class name 'return\\r' is no single line, but classes.txt holds one class a line; "),
        ("", "class name '' is no single line, but classes.txt holds one class a line; "),
        ("bytes\udcff", "class name 'bytes\\udcff' is not valid Unicode, but classes.txt is UTF-8; "),
    ],
)
def test_a_class_name_that_is_no_line_is_refused(name: str, said: str) -> None:
    with pytest.raises(BadData) as caught:
        classes_text(["fine", name])
    assert str(caught.value) == said + "rename the class in the data and train again"


def test_replay_images_keep_the_original_size_and_spread_over_the_classes(digits_bundle: Path) -> None:
    from PIL import Image

    test = open_data("digits").splits["test"]
    originals = {image.tobytes(): label for image, label in zip(test.images, test.labels, strict=True)}
    labels = []
    for file in sorted((digits_bundle / "replay").iterdir()):
        picture = Image.open(file)
        assert picture.size == (8, 8)
        labels.append(int(originals[np.asarray(picture).tobytes()]))
    assert set(labels) == set(range(10))


def test_photos_are_copied_byte_for_byte(make: Callable[..., Path], photos: Path, tmp_path: Path) -> None:
    run = make(data=str(photos), channels=3, fit="crop")
    out = export(run, tmp_path / "bundle", to=())
    sums = {sha256(p) for p in (photos / "test").rglob("*.jpg")}
    copies = list((out / "replay").iterdir())
    assert len(copies) == 10
    assert {sha256(p) for p in copies} == sums
    assert replay(out).spec.classes == ("dress", "t-shirt <b>|é")


def test_timm_reads_our_config(digits_bundle: Path, make: Callable[..., Path], photos: Path, tmp_path: Path) -> None:
    from timm.data import resolve_data_config
    from timm.models._hub import load_model_config_from_path

    cfg, name, arguments = load_model_config_from_path(digits_bundle)
    assert (name, arguments, cfg["num_classes"]) == ("lenet5_relu", {}, 10)
    assert cfg["label_names"] == list("0123456789")
    read = resolve_data_config(pretrained_cfg=cfg)
    assert read == {
        "input_size": [1, 32, 32],
        "interpolation": "bilinear",
        "mean": [0.3],
        "std": [0.4],
        "crop_pct": 1.0,
        "crop_mode": "border",
    }
    out = export(make(data=str(photos), channels=3, fit="crop"), tmp_path / "bundle", to=())
    read = resolve_data_config(pretrained_cfg=load_model_config_from_path(out)[0])
    assert (read["crop_mode"], read["crop_pct"], read["mean"]) == ("center", 0.875, [0.5, 0.45, 0.4])


def test_transformers_fields_map_names_to_logits(digits_bundle: Path) -> None:
    record = json.loads((digits_bundle / "config.json").read_text())
    assert record["id2label"] == {str(i): str(i) for i in range(10)}
    assert record["label2id"] == {str(i): i for i in range(10)}
    assert record["convatlas"]["format"] == 1
    assert record["convatlas"]["versions"]["torch"] == metadata.version("torch")


def test_differences_are_relative_only_above_one() -> None:
    expected = np.array([[0.5, -0.25], [100.0, 0.0], [np.nan, 0.0], [1.0, 0.0]])
    found = np.array([[0.6, -0.25], [100.0, 1.0], [0.0, 0.0], [np.inf, 0.0]], np.float32)
    assert differences(found, expected) == pytest.approx([0.1, 0.01, np.inf, np.inf], rel=1e-6)


# ---- Changed on purpose, with fresh sums: only the replay can tell ---------------------------------------------------


def preprocess(**fields: object) -> Change:
    return lambda b: edit_json(b / "config.json", lambda c: c["convatlas"]["preprocess"].update(fields))


shift_mean, another_fit = preprocess(mean=[0.31]), preprocess(fit="crop")


def reverse_classes(bundle: Path) -> None:
    order = list("9876543210")
    edit_json(bundle / "config.json", lambda c: c["convatlas"].update(classes=order))
    (bundle / "classes.txt").write_text("".join(f"{n}\n" for n in order))


def swap_images(bundle: Path) -> None:
    first, second = sorted((bundle / "replay").iterdir())[:2]
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)


@pytest.mark.parametrize("change", [shift_mean, another_fit, reverse_classes, swap_images])
def test_replay_finds_a_change_that_the_sums_do_not(copy: Path, change: Change) -> None:
    change(copy)
    seal(copy)
    classifier.load(copy)  # nothing is wrong with the files
    with pytest.raises(BadBundle) as caught:
        replay(copy)
    said = str(caught.value)
    assert said.startswith(f"bundle {copy} does not answer as it did: replay/0")
    assert said.endswith(", allowed 0.0001; make it anew with `convatlas export`")


def test_replay_names_image_class_and_difference(copy: Path) -> None:
    expected = json.loads((copy / "replay.json").read_text())["images"][3]

    def change(record: dict) -> None:
        record["images"][3]["logits"][4] += 0.5

    edit_json(copy / "replay.json", change)
    seal(copy)
    with pytest.raises(BadBundle) as caught:
        replay(copy)
    assert str(caught.value) == (
        f"bundle {copy} does not answer as it did: replay/03.png gives {expected['answer']!r}, "
        f"expected {expected['answer']!r}; its logits differ by 0.5, allowed 0.0001; "
        "make it anew with `convatlas export`"
    )


def test_classes_txt_must_agree_with_config(copy: Path) -> None:
    (copy / "classes.txt").write_text("".join(f"{n}\n" for n in "1023456789"))
    seal(copy)
    with pytest.raises(BadBundle) as caught:
        replay(copy)
    assert str(caught.value) == damaged(copy, "classes.txt and config.json name other classes or another order")


# ---- Damaged or hostile ---------------------------------------------------------------------------------------------


def damaged(bundle: Path, fault: str) -> str:
    return f"bundle {bundle} is damaged: {fault}; make it anew with `convatlas export`"


def append_sum(name: str) -> Change:
    def change(bundle: Path) -> None:
        with (bundle / "SHA256SUMS").open("a") as file:
            file.write(f"{'0' * 64}  {name}\n")

    return change


def cut(name: str) -> Change:
    return lambda bundle: os.truncate(bundle / name, (bundle / name).stat().st_size // 2)


def flip(name: str) -> Change:
    def change(bundle: Path) -> None:
        content = bytearray((bundle / name).read_bytes())
        content[len(content) // 2] ^= 4
        (bundle / name).write_bytes(content)

    return change


def link_out(bundle: Path) -> None:
    (bundle / "classes.txt").unlink()
    (bundle / "classes.txt").symlink_to("/etc/hostname")


FAULTS: dict[str, tuple[Change, str]] = {
    "truncated weights": (cut("model.safetensors"), "model.safetensors was changed: its sha256 differs"),
    "flipped weights": (flip("model.safetensors"), "model.safetensors was changed: its sha256 differs"),
    "flipped image": (flip("replay/00.png"), "replay/00.png was changed: its sha256 differs"),
    "truncated config": (cut("config.json"), "config.json was changed: its sha256 differs"),
    "missing classes": (lambda b: (b / "classes.txt").unlink(), "classes.txt is missing"),
    "missing weights": (lambda b: (b / "model.safetensors").unlink(), "model.safetensors is missing"),
    "missing sums": (lambda b: (b / "SHA256SUMS").unlink(), "SHA256SUMS is missing or cannot be read"),
    "garbage sums": (
        lambda b: (b / "SHA256SUMS").write_bytes(os.urandom(300)),
        "SHA256SUMS is missing or cannot be read",
    ),
    "zero byte in sums": (append_sum("a\0b"), "SHA256SUMS is missing or cannot be read"),
    "empty sums": (
        lambda b: (b / "SHA256SUMS").write_text(""),
        "SHA256SUMS does not cover model.safetensors and config.json",
    ),
    "extra file": (lambda b: (b / "replay" / "extra.pkl").touch(), "'replay/extra.pkl' is not in SHA256SUMS"),
    "path out": (append_sum("../../secret"), "../../secret lies outside the folder"),
    "absolute path": (append_sum("/etc/hostname"), "/etc/hostname lies outside the folder"),
    "link out": (link_out, "classes.txt lies outside the folder"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_bundle_is_refused_in_one_line(copy: Path, fault: str) -> None:
    change, said = FAULTS[fault]
    change(copy)
    begin = time.process_time()
    with pytest.raises(BadBundle) as caught:
        replay(copy)
    assert time.process_time() - begin < 2
    assert str(caught.value) == damaged(copy, said)
    assert caught.value.exit_code == 4


def configured(**fields: object) -> Change:
    return lambda bundle: edit_json(bundle / "config.json", lambda c: c["convatlas"].update(fields))


def replaying(**fields: object) -> Change:
    return lambda bundle: edit_json(bundle / "replay.json", lambda r: r["images"][0].update(fields))


def huge_header(bundle: Path) -> None:
    (bundle / "model.safetensors").write_bytes((2**62).to_bytes(8, "little") + b"{}")


def overlapping(bundle: Path) -> None:
    header = {n: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for n in ("a", "b")}
    text = json.dumps(header).encode()
    (bundle / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(8))


class Canary:
    """Its pickle writes a file when it is opened."""

    def __init__(self, path: Path):
        self.path = str(path)

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.path, "w")


def pickle_for_weights(bundle: Path) -> None:
    (bundle / "model.safetensors").write_bytes(pickle.dumps(Canary(bundle.parent / "canary")))


HOSTILE: dict[str, Change] = {
    "garbage config": lambda b: (b / "config.json").write_bytes(b"\xff{{"),
    "config is a list": lambda b: (b / "config.json").write_text("[1, 2]"),
    "deep config": lambda b: (b / "config.json").write_text('{"convatlas":' + "[" * 100_000),
    "no own fields": lambda b: edit_json(b / "config.json", lambda c: c.pop("convatlas")),
    "newer format": configured(format=2),
    "no format": lambda b: edit_json(b / "config.json", lambda c: c["convatlas"].pop("format")),
    "other network": configured(network="resnet20_cifar"),
    "unknown network": configured(network="../lenet5"),
    "other class count": configured(classes=list("012345678")),
    "repeated class": configured(classes=list("0123456788")),
    "a million classes": configured(classes=[str(i) for i in range(1_000_000)]),
    "no class": configured(classes=[]),
    "wrong type": configured(preprocess="none"),
    "huge input": preprocess(height=2**30, width=2**30),
    "huge layer": preprocess(height=2048, width=2048),  # 2 GB, if it were made before the shapes are compared
    "huge header": huge_header,
    "overlapping tensors": overlapping,
    "empty weights": lambda b: (b / "model.safetensors").write_bytes(b""),
    "pickle for weights": pickle_for_weights,
    "no replay": lambda b: (b / "replay.json").unlink(),
    "garbage replay": lambda b: (b / "replay.json").write_text('{"images": 3}'),
    "empty replay": lambda b: (b / "replay.json").write_text('{"images": []}'),
    "long replay": lambda b: edit_json(b / "replay.json", lambda r: r.update(images=r["images"] * 10)),
    "replay outside": replaying(file="replay/../../secret"),
    "replay absolute": replaying(file="/etc/hostname"),
    "replay zero byte": replaying(file="replay/\0"),
    "replay is a folder": replaying(file="replay"),
    "short logits": replaying(logits=[1.0]),
    "infinite logits": replaying(logits=[1e308] * 10),
    "image that is none": lambda b: (b / "replay" / "00.png").write_bytes(b"not a picture"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_bundle_with_true_sums_is_refused_in_one_line(copy: Path, name: str) -> None:
    secret = copy.parent / "secret"
    secret.write_text("untouched")
    HOSTILE[name](copy)
    seal(copy)
    begin = time.process_time()
    with pytest.raises(BadBundle) as caught:
        replay(copy)
    assert time.process_time() - begin < 2
    assert "\n" not in str(caught.value)
    assert str(copy) in str(caught.value)
    assert caught.value.exit_code == 4
    assert secret.read_text() == "untouched"
    assert sorted(p.name for p in copy.parent.iterdir()) == ["bundle", "secret"]


def test_a_newer_format_says_what_is_wrong(copy: Path) -> None:
    configured(format=2)(copy)
    seal(copy)
    with pytest.raises(BadBundle) as caught:
        replay(copy)
    assert str(caught.value) == f"{copy / 'config.json'} cannot be read: it has format 2, this version reads 1"


def test_what_a_file_browser_leaves_does_no_harm(copy: Path) -> None:
    (copy / ".DS_Store").write_bytes(b"1")
    (copy / "replay" / ".thumb").write_bytes(b"1")
    assert replay(copy).spec.network == "lenet5_relu"


def test_a_run_folder_is_no_bundle(digits_run: Path) -> None:
    with pytest.raises(UsageError) as caught:
        replay(digits_run)
    assert str(caught.value) == (
        f"{digits_run} is a run folder, not a bundle; make one with `convatlas export {digits_run} --out BUNDLE`"
    )


def test_a_bundle_stays_as_it_is_when_loaded(digits_bundle: Path) -> None:
    before = {p: (p.stat().st_mtime_ns, sha256(p)) for p in digits_bundle.rglob("*") if p.is_file()}
    replay(digits_bundle)
    assert before == {p: (p.stat().st_mtime_ns, sha256(p)) for p in digits_bundle.rglob("*") if p.is_file()}
