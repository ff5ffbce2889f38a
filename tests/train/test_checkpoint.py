"""A checkpoint is whole or absent, whatever the disk does, and the newest whole one is found (R4, R8)."""

import errno
import os
import pathlib
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from convatlas import files, weights
from convatlas.data import BadFile
from convatlas.errors import BadCheckpoint, NonFinite, SaveFailed, UsageError
from convatlas.networks import NETWORKS
from convatlas.paper import Recipe
from convatlas.train import loop
from convatlas.train.checkpoint import Best, Checkpoints, Snapshot, State, Sums
from convatlas.train.updating import optimisers
from convatlas.train.updating.schedule import Plateau

from .conftest import warm

NAMES = ("open", "fsync", "rename", "replace", "mkdir", "unlink", "rmdir")
FILES = ("model.safetensors", "optimiser.safetensors", "training.safetensors", "state.json", "MANIFEST.json")


@pytest.fixture
def net() -> nn.Module:
    return NETWORKS["tiny"].build(classes=3, channels=1, input=(8, 8))


@pytest.fixture
def sgd(net: nn.Module) -> torch.optim.SGD:
    """After one step, so that there is momentum."""
    found = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    net(torch.randn(4, 1, 8, 8)).sum().backward()
    found.step()
    return found


@pytest.fixture
def checkpoints(tmp_path: Path) -> Checkpoints:
    found = Checkpoints(tmp_path / "run")
    found.make()
    return found


def moment(state: State, net: nn.Module, sgd: torch.optim.SGD) -> Snapshot:
    return Snapshot(state, net.state_dict(), optimisers.tensors(net, sgd), net.state_dict())


def names(checkpoints: Checkpoints) -> list[str]:
    return sorted(p.name for p in checkpoints.folder.iterdir())


def test_everything_comes_back(checkpoints: Checkpoints, net: nn.Module, sgd: torch.optim.SGD) -> None:
    state = State(
        step=17,
        epoch=2,
        sums=Sums(0.1 + 0.2, 11, 13),
        plateau=Plateau(5, 2, 1),
        best=Best(12, 1, 9, 0.25),
        bad=[BadFile("a.jpg", "cut short")],
        new_bad=[BadFile("b.jpg", "no image")],
        log_bytes=99,
        seconds=1.25,
        parts=4,
        scale=(1024.0, 7),
    )
    checkpoints.save(moment(state, net, sgd))
    found = Checkpoints(checkpoints.folder.parent).newest()
    assert found is not None
    folder, again = found
    assert again == state
    assert folder.name == "step-000000017"
    assert (checkpoints.folder / "last").read_text() == "step-000000017\n"
    assert (checkpoints.folder / "best").read_text() == "step-000000012\n"
    other = NETWORKS["tiny"].build(classes=3, channels=1, input=(8, 8)).to(memory_format=torch.channels_last)
    weights.fill(other, weights.load(folder / "model.safetensors"), "")
    theirs = torch.optim.SGD(other.parameters(), 0.1, momentum=0.9)
    optimisers.restore(other, theirs, weights.load(folder / "optimiser.safetensors"), "")
    for (name, mine), buffer in zip(other.named_parameters(), optimisers.tensors(other, theirs).values(), strict=True):
        assert torch.equal(mine, net.get_parameter(name))
        assert torch.equal(buffer, sgd.state[net.get_parameter(name)]["momentum_buffer"])
        assert buffer.stride() == mine.stride()


def test_the_last_two_and_the_best_are_kept(checkpoints: Checkpoints, net: nn.Module, sgd: torch.optim.SGD) -> None:
    for step in (1, 2, 3, 4, 5):
        checkpoints.save(moment(State(step=step, best=Best(2, 1, 1, 0.5) if step > 1 else None), net, sgd))
    assert names(checkpoints) == ["best", "last", "step-000000002", "step-000000004", "step-000000005"]
    assert (checkpoints.folder / "best").read_text() == "step-000000002\n"


class Failing:
    """The n-th of the system calls that make files whole fails with an errno."""

    def __init__(self, patch: pytest.MonkeyPatch, number: int, code: int):
        self.calls = 0
        for name in NAMES:
            patch.setattr(os, name, self.watched(getattr(os, name), number, code))
        for name in ("write_text", "open"):
            patch.setattr(pathlib.Path, name, self.watched(getattr(pathlib.Path, name), number, code))
        patch.setattr(weights, "save", self.watched(weights.save, number, code))

    def watched(self, real: Callable[..., Any], number: int, code: int) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if self.calls == number:
                raise OSError(code, os.strerror(code))
            return real(*args, **kwargs)

        return call


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO], ids=["ENOSPC", "EIO"])
def test_a_failure_at_any_call_of_a_save_leaves_a_good_checkpoint(
    code: int, checkpoints: Checkpoints, net: nn.Module, sgd: torch.optim.SGD, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints.save(moment(State(step=1), net, sgd))
    checkpoints.save(moment(State(step=2), net, sgd))
    with monkeypatch.context() as patch:
        counted = Failing(patch, 10**9, code)
        checkpoints.save(moment(State(step=3), net, sgd))
    step, failures, quiet = 3, 0, 0
    for number in range(1, counted.calls + 1):
        step += 1
        with monkeypatch.context() as patch:
            Failing(patch, number, code)
            try:
                checkpoints.save(moment(State(step=step), net, sgd))
            except SaveFailed as error:
                failures += 1
                assert str(error).startswith(f"cannot write {checkpoints.folder}/")
                assert os.strerror(code) in str(error)
                assert "free some space or choose another folder" in str(error)
            else:
                quiet += 1  # while something old was being removed: nothing is lost by that
        found = Checkpoints(checkpoints.folder.parent).newest()
        assert found is not None and found[1].step in (step, step - 1, step - 2), number
        weights.load(found[0] / "model.safetensors")
        assert {p.name for p in found[0].iterdir()} == set(FILES)
        Checkpoints(checkpoints.folder.parent).clean()  # as the next start does
        assert not list(checkpoints.folder.glob("tmp-*")) and not list(checkpoints.folder.glob(".*"))
        checkpoints.save(moment(State(step=(step := step + 1)), net, sgd))
    assert failures >= 25 and failures > 2 * quiet


def spoil(file: Path) -> None:
    """Flips one bit in the middle."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_a_damaged_newest_checkpoint_is_named_passed_over_and_kept(
    checkpoints: Checkpoints, net: nn.Module, sgd: torch.optim.SGD, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (1, 2, 3):
        checkpoints.save(moment(State(step=step), net, sgd))
    spoil(checkpoints.folder / "step-000000003" / "model.safetensors")
    again = Checkpoints(checkpoints.folder.parent)
    found = again.newest()
    assert found is not None and found[1].step == 2
    assert capsys.readouterr().err == (
        f"convatlas: checkpoint {checkpoints.folder}/step-000000003 is damaged: model.safetensors was changed: "
        "its sha256 differs; it is left as it is, and an older one is looked for\n"
    )
    again.save(moment(State(step=4), net, sgd))
    again.save(moment(State(step=5), net, sgd))
    assert names(again) == ["last", "step-000000003", "step-000000004", "step-000000005"]
    again.save(moment(State(step=3), net, sgd))
    assert files.damage(again.folder / "step-000000003") is None


def test_a_checkpoint_of_another_format_is_passed_over(
    checkpoints: Checkpoints, net: nn.Module, sgd: torch.optim.SGD, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints.save(moment(State(step=1), net, sgd))
    checkpoints.save(moment(State(step=2, format=1), net, sgd))
    found = checkpoints.newest()
    assert found is not None and found[1].step == 1
    assert "step-000000002 is damaged: it has format 1, this version reads 2; " in capsys.readouterr().err


@pytest.mark.parametrize("state", ["", "{", '{"step": "x"}', '{"step": 1, "epoch": null}'])
def test_a_state_that_cannot_be_read_is_damage(
    state: str, checkpoints: Checkpoints, net: nn.Module, sgd: torch.optim.SGD, capsys: pytest.CaptureFixture[str]
) -> None:
    checkpoints.save(moment(State(step=1), net, sgd))
    files.write_folder(checkpoints.folder / "step-000000002", lambda f: (f / "state.json").write_text(state) and None)
    found = checkpoints.newest()
    assert found is not None and found[1].step == 1
    assert "step-000000002 is damaged: state.json cannot be read: " in capsys.readouterr().err


def test_no_whole_checkpoint_at_all(checkpoints: Checkpoints, net: nn.Module, sgd: torch.optim.SGD) -> None:
    assert checkpoints.newest() is None
    checkpoints.save(moment(State(step=1), net, sgd))
    (checkpoints.folder / "step-000000001" / "MANIFEST.json").unlink()
    with pytest.raises(BadCheckpoint) as caught:
        checkpoints.newest()
    assert str(caught.value) == (
        f"{checkpoints.folder} holds 1 checkpoint and none is whole; start anew in another folder, "
        "or move it away and --resume to train from the start"
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_no_checkpoint_of_weights_that_are_not_finite(
    value: float, checkpoints: Checkpoints, net: nn.Module, sgd: torch.optim.SGD
) -> None:
    with torch.no_grad():
        net.get_parameter("fc.weight")[1, 2] = value
    with pytest.raises(NonFinite) as caught:
        moment(State(step=1234), net, sgd).refuse_non_finite()
    assert str(caught.value) == (
        "fc.weight is not finite after step 1,234; no checkpoint was made of it, the last good one is kept; "
        "a smaller learning rate helps (--set lr=...)"
    )
    assert names(checkpoints) == []


class Gain(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * 3e4) * 3e4


class Loud(warm.Tiny):
    """A layer that makes of any number one that fp16 does not hold."""

    def __init__(self, **shape: Any):
        super().__init__(**shape)
        self.gain = Gain()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) + self.gain(self.conv(x)).mean()


def all_finite(run: Path) -> bool:
    folders = (run / "checkpoints").glob("step-*")
    return all(
        torch.isfinite(t).all() for f in folders for p in f.glob("*.safetensors") for t in weights.load(p).values()
    )


def test_a_rate_that_is_far_too_high_stops_the_training(quick: Any, recipe: Recipe, tmp_path: Path) -> None:
    run, high = tmp_path / "run", replace(recipe, lr=1e20)
    said = []
    for resume in (False, True):
        with pytest.raises(NonFinite) as caught:
            quick(run, recipe=high, save_seconds=0.0, resume=resume)
        said.append(str(caught.value))
    # Step 2 itself makes infinity of numbers, which the checkpoint after it refuses.
    assert said[0] == (
        "bn.bias is not finite after step 2; no checkpoint was made of it, the last good one is kept; "
        "a smaller learning rate helps (--set lr=...)"
    )
    assert said[0] == said[1]
    assert all_finite(run)
    with pytest.raises(NonFinite) as caught:  # without a checkpoint between, the next step finds it
        quick(tmp_path / "other", recipe=high)
    assert str(caught.value) == (
        "bn.bias is not finite, and the loss is nan in step 3 (epoch 1); stopped before the weights changed; "
        "a rate of 1e+20 is likely too high: a smaller learning rate helps (--set lr=...)"
    )
    assert not list((tmp_path / "other" / "checkpoints").glob("step-*"))


def test_weights_that_only_fail_in_the_validation_stop_it_too(quick: Any, recipe: Recipe, tmp_path: Path) -> None:
    """One step at 1e25 leaves weights that are numbers, and answers that are none: no checkpoint is made of them."""
    high = replace(recipe, lr=1e25, epochs=None, iterations=1)
    with pytest.raises(NonFinite) as caught:
        quick(tmp_path / "run", recipe=high)
    assert str(caught.value).startswith(
        "the validation loss is not finite after step 1, which begins at the output of "
    )
    assert not list((tmp_path / "run" / "checkpoints").glob("step-*"))


def test_an_image_that_is_no_number_stops_the_training(
    quick: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sums_of: Any
) -> None:
    """Its normalisation made it, say. Once that is mended, a resume ends as if nothing had been."""
    batches = loop.Training._batches

    def spoilt(self: loop.Training, start: int) -> Any:
        for batch in batches(self, start):
            if self.state.step == 8:
                batch.images[1, 0, 3, 3] = float("nan")
            yield batch

    with monkeypatch.context() as patch:
        patch.setattr(loop.Training, "_batches", spoilt)
        with pytest.raises(NonFinite) as caught:
            quick(tmp_path / "run", save_seconds=0.0)
    assert "the images hold numbers that are not finite in step 9 (epoch 2); stopped before" in str(caught.value)
    assert all_finite(tmp_path / "run")
    quick(tmp_path / "run", save_seconds=0.0, resume=True)
    quick(tmp_path / "whole")
    assert sums_of(tmp_path / "run") == sums_of(tmp_path / "whole")


def test_an_overflow_of_fp16_stops_the_training(
    quick: Any, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(NETWORKS, "tiny", replace(warm.TINY, build=Loud))
    with pytest.raises(NonFinite) as caught:
        quick(tmp_path / "run", recipe=replace(recipe, precision="fp16"))
    assert re.match(r"the loss is \w+, which begins at the output of gain in step 1 ", str(caught.value)), caught.value
    assert str(caught.value).endswith("fp16 holds no number beyond 65,504; use --set precision=bf16 or fp32")
    assert not list((tmp_path / "run" / "checkpoints").glob("step-*"))


def test_two_processes_cannot_train_into_one_folder(trainings: Any, photos: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    with Checkpoints(run).lock():
        trainings.start(run, photos)
        assert trainings.wait() == UsageError.exit_code
    assert trainings.stderr(run).read_text().splitlines()[-1] == (
        f"convatlas: another process is training into {run}; wait for it or choose another --out"
    )


def test_what_a_killed_process_left_half_written_is_removed(checkpoints: Checkpoints) -> None:
    half = checkpoints.folder / "tmp-step-000000007-1234"
    half.mkdir()
    (half / "model.safetensors").write_bytes(b"half")
    (checkpoints.folder / ".last.1234.tmp").write_text("step")
    (checkpoints.folder.parent / ".config.json.1234.tmp").write_text("{")
    checkpoints.clean()
    assert names(checkpoints) == []
    assert sorted(p.name for p in checkpoints.folder.parent.iterdir()) == ["checkpoints"]
