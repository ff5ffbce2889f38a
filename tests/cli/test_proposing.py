"""`convatlas choose DATA --time`: the time, the data's facts, the calibration that is kept, and the answer."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convatlas.account import account
from convatlas.cli import proposing
from convatlas.compare import prediction, proposal
from convatlas.compare.prediction import FEATURES, Calibration, Point, Ratio
from convatlas.compare.proposal import Facts, settings
from convatlas.data import open_data
from convatlas.errors import BadData, UsageError
from convatlas.measure import calibration as measuring
from convatlas.networks import build
from convatlas.result import this_machine, versions

Capture = pytest.CaptureFixture[str]


def calibration(**changes: object) -> Calibration:
    made = Calibration(
        machine=this_machine("cpu", torch.get_num_threads()),
        versions=versions(("torch",)),
        engine="torch",
        when="today",
        seconds=60.0,
        processor=1.0,
        prices={name: 2e-8 if name.startswith("MACs") else 0.0 for name in FEATURES},
        points=(Point("resnet18", (3, 224, 224), 1, 36.0, 35.0, 37.0, 36.3, 36.3),),
        ratios=(Ratio("with batch norm", 3.0, 3.0, 3.0, ("resnet18",)),),
        update_ms=0.0,
        error_median=0.1,
        error_90=0.2,
    )
    return replace(made, **changes)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """An archive beside which a calibration of this machine is kept."""
    prediction.save(calibration(), tmp_path / "results" / "calibration.json")
    return tmp_path / "results" / "measurements.jsonl"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Counts calibrations instead of taking a minute for each; they come out as made "anew"."""
    made: list[str] = []
    monkeypatch.setattr(measuring, "calibrate", lambda progress: made.append("one"))
    monkeypatch.setattr(prediction, "fit", lambda measured: calibration(when="anew"))
    return made


@pytest.mark.parametrize(
    ("given", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1h30m", 5400), ("1.5h", 5400), (" 10M ", 600)],
)
def test_a_time_is_read(given: str, seconds: float) -> None:
    assert proposing.read_time(given) == seconds


@pytest.mark.parametrize("given", ["", "30", "m", "30 minutes", "-5m", "0s", "1h!", "5m 3"])
def test_a_time_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(UsageError) as error:
        proposing.read_time(given)
    assert str(error.value) == f"--time {given!r} is no length of time; write it like 90s, 30m or 2h"


def test_facts_of_digits() -> None:
    found = proposing.facts("digits")
    assert (found.name, found.source, found.channels, found.side) == ("digits", "digits", 1, 8)
    splits = open_data("digits").splits
    assert (found.train, found.validation) == (len(splits["train"]), len(splits["validation"]))
    assert found.classes == tuple("0123456789")
    assert (found.loaders, found.load_ms) == (0, 0.0)  # in memory


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for label in ("cat", "dog"):
        for split, count in (("train", 5), ("validation", 2)):
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = np.random.default_rng(i).integers(0, 255, (150, 200, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return tmp_path / "photos"


def test_facts_of_photos_pass_over_what_cannot_be_decoded(photos: Path) -> None:
    (photos / "train" / "cat" / "0.png").write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    found = proposing.facts(str(photos))
    assert (found.train, found.validation, found.channels, found.side) == (10, 4, 3, 150)
    assert 0 < found.load_ms < 1000


def test_photos_of_which_none_can_be_decoded_are_refused(photos: Path) -> None:
    for file in (photos / "train").rglob("*.png"):
        file.write_bytes(b"\x89PNG\r\n\x1a\nbroken")
    with pytest.raises(BadData) as error:
        proposing.facts(str(photos))
    assert str(error.value) == (
        f"{photos}: none of 10 training images can be decoded; `convatlas check-data` lists what is wrong"
    )


def test_accounts_have_the_sizes_classes_and_channels_of_the_data() -> None:
    facts = Facts("grey", "grey", 1000, 100, ("a", "b", "c"), 1, 400, 0, 0.0)
    wanted = [s for s in settings(facts) if s.network in ("resnet18", "squeezenet1_0") and s.size == 112]
    for setting, table in proposing.accounts(wanted, facts):
        net = build(setting.network, classes=3, channels=1, input=(112, 112)).eval()
        assert table.input == ((1, 1, 112, 112),)
        assert table.totals.params == sum(p.numel() for p in net.parameters())
        assert table.totals.macs == account(net, (1, 112, 112)).totals.macs


def test_accounts_leave_out_what_cannot_be_so_small() -> None:
    facts = Facts("photos", "photos", 1000, 100, ("a", "b"), 3, 400, 0, 0.0)
    wanted = [replace(s, size=48) for s in settings(facts) if s.network in ("alexnet", "resnet18") and s.size == 112]
    assert [s.network for s, _ in proposing.accounts(wanted, facts)] == ["resnet18"]


def test_a_calibration_is_used_again_or_made_anew(archive: Path, measured: list[str]) -> None:
    file = archive.parent / "calibration.json"
    assert proposing.calibrated(archive, False).when == "today"
    assert proposing.calibrated(archive.parent, False).when == "today"  # the archive's folder is as good
    assert measured == []
    assert proposing.calibrated(archive, True).when == "anew"
    assert prediction.read(file) == calibration(when="anew")
    for other in (
        calibration(machine=replace(this_machine("cpu", torch.get_num_threads()), processor="another")),
        calibration(machine=this_machine("cpu", 99)),
        calibration(versions={"torch": "1.0"}),
    ):
        prediction.save(other, file)
        assert proposing.calibrated(archive, False).when == "anew"
    assert len(measured) == 4


def test_a_first_calibration_is_kept_beside_the_archive(tmp_path: Path, measured: list[str]) -> None:
    assert proposing.calibrated(tmp_path / "new" / "measurements.jsonl", False).when == "anew"
    assert (tmp_path / "new" / "calibration.json").is_file()
    assert measured == ["one"]


def test_a_broken_calibration_is_named_and_replaced_when_asked(archive: Path, measured: list[str]) -> None:
    file = archive.parent / "calibration.json"
    file.write_text("{")
    with pytest.raises(BadData) as error:
        proposing.calibrated(archive, False)
    assert str(error.value) == (
        f"{file} cannot be read as a calibration: Input data was truncated; --recalibrate makes it anew"
    )
    assert proposing.calibrated(archive, True).when == "anew"


def test_digits_in_ten_minutes(archive: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    some = {"lenet5_relu", "resnet20_cifar", "preresnet110_cifar", "wrn28_10_cifar"}
    monkeypatch.setattr(proposal, "settings", lambda facts: [s for s in settings(facts) if s.network in some])
    proposing.propose("digits", "10m", archive)
    out, err = capsys.readouterr()
    assert out.startswith(
        "digits: 1,293 training images of 10 classes, about 8 pixels on the shorter side; 10 min 00 s "
    )
    assert err.startswith("next: convatlas train lenet5_relu digits --set epochs=40 ")
    proposing.propose("digits", "10m", archive, json=True)
    answer = json.loads(capsys.readouterr().out)
    assert {c["network"] for part in ("to_try", "fits", "too_long") for c in answer[part]} == some
    assert answer["to_try"][0]["input"] == [1, 32, 32]


def test_a_wrong_time_is_refused_before_anything_is_opened(archive: Path) -> None:
    with pytest.raises(UsageError, match=r"^--time '10' is no length of time"):
        proposing.propose("no/such/folder", "10", archive)
