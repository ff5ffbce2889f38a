"""Where the loop stops, and what a resume makes of it: no bad weights, no lost epoch, a line that says why (R4, R8)."""

import dataclasses
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from convatlas import weights
from convatlas.data import open_data
from convatlas.data.loader import Batch
from convatlas.errors import (
    BadRecipe,
    NonFinite,
    RunFailed,
    SaveFailed,
)
from convatlas.networks import build
from convatlas.paper import Recipe
from convatlas.result import Result
from convatlas.train import loop as loop_module
from convatlas.train import read_log
from convatlas.train.checkpoint import Checkpoints, Snapshot

Quick = Callable[..., Result]


def test_a_rate_that_blows_up_stops_before_a_bad_checkpoint(quick: Quick, recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(NonFinite) as caught:
        quick(tmp_path / "run", recipe=dataclasses.replace(recipe, lr=1e20), save_seconds=0.0)
    assert "is not finite" in str(caught.value) or "the loss is" in str(caught.value)
    assert "a smaller learning rate helps (--set lr=...)" in str(caught.value)
    for step in (tmp_path / "run" / "checkpoints").glob("step-*"):
        for tensors in (weights.load(step / "model.safetensors"), weights.load(step / "optimiser.safetensors")):
            assert all(torch.isfinite(t).all() for t in tensors.values() if t.is_floating_point())


def test_a_nan_among_the_starting_weights_is_named(quick: Quick, tmp_path: Path) -> None:
    net = build("tiny", classes=4)
    with torch.no_grad():
        net.get_parameter("conv.weight")[0, 0, 0, 0] = float("nan")
    weights.save(net, tmp_path / "start.safetensors")
    with pytest.raises(NonFinite) as caught:
        quick(tmp_path / "run", weights=tmp_path / "start.safetensors")
    assert str(caught.value) == (
        "conv.weight is not finite, and the loss is nan in step 1 (epoch 1); stopped before the weights changed; "
        "the weights that it started from are not finite"
    )


def test_no_memory_is_said_in_a_line(quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")

    monkeypatch.setattr(loop_module.Training, "_step", full)
    with pytest.raises(RunFailed) as caught:
        quick(tmp_path / "run")
    assert str(caught.value) == (
        "out of memory on cpu while training; "
        "start anew with a smaller batch (--set batch=...) or input (--set size=...)"
    )


def test_the_systems_own_refusal_is_no_memory_too(quick: Quick, recipe: Recipe, tmp_path: Path) -> None:
    """A real allocation that no machine grants: 10^15 floats."""

    def greedy(*args: Any) -> None:
        torch.empty(10**15)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop_module.Training, "_step", greedy)
        with pytest.raises(RunFailed, match=r"^out of memory on cpu while training; "):
            quick(tmp_path / "run")


def test_a_full_disk_in_mid_training(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sums_of: Any
) -> None:
    quick(tmp_path / "whole")
    run, real, calls = tmp_path / "run", os.fsync, 0

    def full(handle: int) -> None:
        nonlocal calls
        calls += 1
        if calls > 40:
            raise OSError(28, "No space left on device")
        real(handle)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(SaveFailed) as caught:
            quick(run)
    last = (run / "checkpoints" / "last").read_text().strip()
    assert str(caught.value).startswith(f"cannot write {run}/") and "No space left on device" in str(caught.value)
    assert str(caught.value).endswith(f"{last} is whole, train(..., {str(run)!r}, resume=True) goes on from it")
    quick(run, resume=True)
    assert sums_of(run) == sums_of(tmp_path / "whole")


def test_a_batch_norm_that_sees_one_value(quick: Quick, recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe) as caught:
        quick(tmp_path / "run", recipe=dataclasses.replace(recipe, batch=1, size=4))
    assert str(caught.value) == "batch norm cannot train on a batch of 1 with maps of 1x1; use --set batch=2 or more"


def test_a_resume_in_the_middle_of_an_epoch_whose_rest_is_bad(
    quick: Quick, photos: Path, recipe: Recipe, tmp_path: Path, sums_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last batch of the first epoch holds only bad files; a stop just before it must not end the training."""
    folder = shutil.copytree(photos, tmp_path / "fruit")
    split = open_data(folder).splits["train"]
    from convatlas.data import draws

    last = draws.order(draws.key(0, 0, draws.ORDER), len(split))[40:]
    assert len(last) == 4
    assert split.paths is not None
    for number in last:
        split.paths[number].write_bytes(b"no image")
    quick(tmp_path / "whole", data=folder)
    real, steps = loop_module.Training._step, 0

    def stop(self: loop_module.Training, batch: Batch) -> float:
        nonlocal steps
        rate = real(self, batch)
        steps += 1
        if steps == 5:
            self.save()
            raise KeyboardInterrupt
        return rate

    with monkeypatch.context() as patch:
        patch.setattr(loop_module.Training, "_step", stop)
        with pytest.raises(KeyboardInterrupt):
            quick(tmp_path / "run", data=folder)
    quick(tmp_path / "run", data=folder, resume=True)
    assert sums_of(tmp_path / "run") == sums_of(tmp_path / "whole")


@pytest.mark.parametrize("epoch", [1, 2, 3])
@pytest.mark.parametrize("saved", [False, True], ids=["before the save", "after the save"])
def test_a_stop_at_an_epochs_end_keeps_the_plateau_and_one_line_an_epoch(
    epoch: int, saved: bool, quick: Quick, recipe: Recipe, tmp_path: Path, sums_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that hardly move give the same errors in each epoch, so the rate drops after each but the first."""
    still = dataclasses.replace(recipe, lr=1e-12)
    quick(tmp_path / "whole", recipe=still)
    assert [e.lr for e in read_log(tmp_path / "whole")] == pytest.approx([1e-12, 1e-12, 5e-13, 2.5e-13])
    real = Checkpoints.save

    def save(self: Checkpoints, moment: Snapshot) -> None:
        if saved:
            real(self, moment)
        if moment.state.epoch == epoch:
            raise KeyboardInterrupt
        if not saved:
            real(self, moment)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Checkpoints, "save", save)
        quick(tmp_path / "run", recipe=still)
    quick(tmp_path / "run", recipe=still, resume=True)
    assert sums_of(tmp_path / "run") == sums_of(tmp_path / "whole")
