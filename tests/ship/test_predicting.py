"""Predictions from image files: the same answers as torch gives, and every bad file named."""

import json
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convatlas import classifier
from convatlas.errors import BadBundle, UsageError
from convatlas.record import to_json
from convatlas.ship import Prediction, export, predict, summary

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def photo_bundle(photos: Path, tmp_path_factory: pytest.TempPathFactory, photo_run: Path) -> Path:
    return export(photo_run, tmp_path_factory.mktemp("photo") / "bundle", to=())


def test_probabilities_equal_plain_torch(digits_bundle: Path) -> None:
    files = sorted((digits_bundle / "replay").iterdir())
    source = classifier.load(digits_bundle)
    p = source.spec.preprocess
    answers = predict(digits_bundle, files, top=3)
    for file, answer in zip(files, answers, strict=True):
        picture = Image.open(file).convert("L").resize((32, 32), Image.Resampling.BILINEAR)
        pixels = torch.from_numpy(np.array(picture)).float()[None, None] / 255
        with torch.no_grad():
            logits = source.net((pixels - p.mean[0]) / p.std[0])[0]
        expected = logits.double().softmax(0)
        assert answer.file == str(file)
        assert answer.answer == source.spec.classes[int(expected.argmax())]
        assert answer.probability == pytest.approx(float(expected.max()), abs=1e-6)
        assert [p for _, p in answer.top] == pytest.approx(expected.sort(descending=True).values[:3].tolist(), abs=1e-6)


def test_probabilities_of_all_classes_sum_to_one(digits_bundle: Path) -> None:
    (answer,) = predict(digits_bundle, [digits_bundle / "replay" / "00.png"], top=99)
    assert len(answer.top) == 10
    assert math.fsum(p for _, p in answer.top) == pytest.approx(1, abs=1e-12)
    assert answer.top[0][0] == answer.answer


def test_batches_change_nothing_but_the_last_digits(digits_bundle: Path) -> None:
    files = sorted((digits_bundle / "replay").iterdir()) * 5  # more than two batches of 32
    many = predict(digits_bundle, files)
    assert len(many) == len(files) > 64
    alone = {f: predict(digits_bundle, [f])[0] for f in files[:3]}
    for file, answer in zip(files, many, strict=True):
        if file in alone:
            assert answer.answer == alone[file].answer
            assert answer.probability == pytest.approx(alone[file].probability, abs=1e-6)


def test_exif_turns_a_photo_before_it_is_judged(photo_bundle: Path, tmp_path: Path) -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30] = 255
    upright = Image.fromarray(pixels)
    upright.save(tmp_path / "upright.png")
    exif = upright.getexif()
    exif[0x0112] = 6  # "turn by 90 degrees clockwise to see it upright"
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    first, second = predict(photo_bundle, [tmp_path / "upright.png", tmp_path / "turned.png"])
    assert first.top == second.top


def test_bad_files_are_named_and_end_nothing(photo_bundle: Path, photos: Path, tmp_path: Path) -> None:
    good = photos / "test" / "dress" / "1.jpg"
    half = tmp_path / "half.jpg"
    half.write_bytes(good.read_bytes()[:300])
    text = tmp_path / "text.jpg"
    text.write_text("no picture")
    os.mkfifo(tmp_path / "pipe.jpg")
    missing = tmp_path / "missing.jpg"
    before = half.read_bytes()
    answers = predict(photo_bundle, [good, half, text, tmp_path / "pipe.jpg", missing, good])
    assert [a.error is None for a in answers] == [True, False, False, False, False, True]
    assert answers[0] == answers[5]
    for answer, file in zip(answers[1:5], (half, text, tmp_path / "pipe.jpg", missing), strict=True):
        assert answer.as_dict() == {"file": str(file), "error": answer.error}
        assert answer.error is not None and answer.error.startswith(f"{file}: ")
        assert "\n" not in answer.error
    assert answers[4].error == f"{missing}: no such file or directory"
    assert half.read_bytes() == before


def test_folders_are_walked_in_order(photo_bundle: Path, photos: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(photos / "test", tmp_path / "photos"))
    (folder / "notes.txt").write_text("no image, and not named like one")
    (folder / ".hidden.jpg").write_text("")
    (folder / "broken.jpg").write_text("")
    answers = predict(photo_bundle, [folder])
    assert [a.file for a in answers] == sorted(str(p) for p in folder.rglob("*.jpg") if not p.name.startswith("."))
    assert [a.file for a in answers if a.error] == [str(folder / "broken.jpg")]
    (tmp_path / "empty").mkdir()
    (nothing,) = predict(photo_bundle, [tmp_path / "empty"])
    assert nothing.error == f"{tmp_path / 'empty'}: no image files in this folder"


def test_json_form_is_the_promised_one(photo_bundle: Path, photos: Path, tmp_path: Path) -> None:
    answers = predict(photo_bundle, [photos / "test" / "dress" / "0.jpg", tmp_path / "none.png"])
    good, bad = json.loads(to_json([a.as_dict() for a in answers]))
    assert list(good) == ["file", "class", "probability", "top"]
    assert [list(t) for t in good["top"]] == [["class", "probability"]] * 2
    assert good["top"][0] == {"class": good["class"], "probability": good["probability"]}
    assert list(bad) == ["file", "error"]


def test_a_name_that_is_not_utf8_is_still_json(photo_bundle: Path, photos: Path, tmp_path: Path) -> None:
    name = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    shutil.copyfile(photos / "test" / "dress" / "0.jpg", name)
    answers = predict(photo_bundle, [Path(os.fsdecode(name)), Path(os.fsdecode(name + b"x"))])
    good, bad = json.loads(to_json([a.as_dict() for a in answers]))
    assert good["file"] == f"{tmp_path}/caf\\xe9.jpg"
    assert good["class"] in ("dress", "t-shirt <b>|é")
    assert bad["error"].isprintable()


def test_summary_shows_answers_and_bad_files() -> None:
    answers = [
        Prediction("a\x1b[2J.jpg", "dress", 0.9, (("dress", 0.9), ("hat", 0.1))),
        Prediction("b.jpg", error="b.jpg: the file is empty"),
    ]
    assert summary(answers).splitlines() == [
        "file          class  probability  then",
        "────────────  ─────  ───────────  ──────────",
        "a\\x1b[2J.jpg  dress       90.0 %  hat 10.0 %",
        "unreadable: b.jpg: the file is empty",
    ]
    assert summary([]) == ""


def test_predict_replays_first(photo_bundle: Path, photos: Path, tmp_path: Path) -> None:
    bundle = Path(shutil.copytree(photo_bundle, tmp_path / "bundle"))
    os.truncate(bundle / "model.safetensors", 100)
    with pytest.raises(BadBundle) as caught:
        predict(bundle, [photos])
    assert str(caught.value) == (
        f"bundle {bundle} is damaged: model.safetensors was changed: its sha256 differs; "
        "make it anew with `convatlas export`"
    )


def test_usage_faults(digits_run: Path, digits_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        predict(digits_run, [])
    assert str(caught.value) == (
        f"{digits_run} is a run folder, not a bundle; make one with `convatlas export {digits_run} --out BUNDLE`"
    )
    with pytest.raises(UsageError) as caught:
        predict(tmp_path / "none", [])
    assert str(caught.value) == (
        f"no bundle at {tmp_path / 'none'}; make one with `convatlas export RUN --out {tmp_path / 'none'}`"
    )
    with pytest.raises(UsageError) as caught:
        predict(digits_bundle, [], top=0)
    assert str(caught.value) == "top 0 names no class; give 1 or more"
    assert predict(digits_bundle, []) == []
