"""What a training does to weights, data and the disk, and what it says when it cannot go on."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from convatlas import weights
from convatlas.data import Preprocess, open_data
from convatlas.data.loader import Feed
from convatlas.errors import (
    BadCheckpoint,
    BadData,
    BadInput,
    BadRecipe,
    ConvAtlasError,
    UnknownName,
    UsageError,
)
from convatlas.networks import build
from convatlas.paper import Recipe
from convatlas.result import Result
from convatlas.train import Options, read_config, read_log, summary, train
from convatlas.train import loop as loop_module

Quick = Callable[..., Result]


def final(run: Path, name: str = "model") -> dict[str, torch.Tensor]:
    last = (run / "checkpoints" / "last").read_text().strip()
    return weights.load(run / "checkpoints" / last / f"{name}.safetensors")


# ---- The arithmetic --------------------------------------------------------------------------------------------------


def test_weights_follow_the_formula_of_sgd_with_momentum(tmp_path: Path) -> None:
    """v = momentum v + gradient + decay w; w = w - lr v, with decay on all parameters, worked out in float64."""
    recipe = Recipe(
        iterations=7, batch=200, lr=0.05, weight_decay=5e-3, schedule="steps", drops=(3,), augment=(), fit="pad"
    )
    train("lenet5_relu", "digits", tmp_path / "run", recipe=recipe, options=Options(device="cpu"))
    config = read_config(tmp_path / "run")
    net = build("lenet5_relu", seed=0).double()
    velocity = {name: torch.zeros_like(p) for name, p in net.named_parameters()}
    split = open_data("digits").splits["train"]
    for step, batch in enumerate(Feed(split, config.spec.preprocess, (), batch=200, seed=0).batches(0)):
        net.zero_grad()
        nn.functional.cross_entropy(net(batch.images.double()), batch.labels).backward()
        with torch.no_grad():
            for name, p in net.named_parameters():
                assert p.grad is not None
                velocity[name] = 0.9 * velocity[name] + p.grad + 5e-3 * p
                p -= (0.05 if step < 3 else 0.005) * velocity[name]
    for name, tensor in final(tmp_path / "run").items():
        torch.testing.assert_close(tensor.double(), net.get_parameter(name).data, rtol=1e-4, atol=1e-6)


def test_digits_are_learnt_in_a_few_epochs(tmp_path: Path) -> None:
    recipe = Recipe(epochs=6, batch=32, lr=0.02, schedule="steps", drops=(5,), fit="pad")
    result = train("lenet5_relu", "digits", tmp_path / "run", recipe=recipe, options=Options(device="cpu"))
    assert result.accuracy is not None and result.data is not None
    assert result.accuracy.images == 359 and result.data.split == "test"
    assert result.accuracy.top1 > 0.9
    assert (result.kind, result.params, result.macs, result.epochs) == ("training", 61_706, 416_520, 6)
    log = read_log(tmp_path / "run")
    assert [e.epoch for e in log] == [1, 2, 3, 4, 5, 6]
    assert [e.lr for e in log] == pytest.approx([0.02] * 5 + [0.002])
    validations = [(e.validation.correct, -e.validation.loss) for e in log if e.validation]
    best = (tmp_path / "run" / "checkpoints" / "best").read_text().strip()
    assert best == f"step-{log[validations.index(max(validations))].step:09d}"
    lines = summary(result).splitlines()
    assert lines[0] == "lenet5_relu on digits, test split"
    assert "61,706 parameters, 416,520 MACs an image" in lines[3]


def test_the_callers_random_state_is_left_alone_and_does_not_matter(quick: Quick, tmp_path: Path, sums_of: Any) -> None:
    torch.manual_seed(1)
    np.random.seed(1)
    before, theirs = torch.get_rng_state(), np.random.get_state()[1].copy()
    quick(tmp_path / "a")
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], theirs)
    torch.manual_seed(2)
    quick(tmp_path / "b")
    assert sums_of(tmp_path / "a") == sums_of(tmp_path / "b")


def test_another_seed_is_another_training(quick: Quick, tmp_path: Path) -> None:
    quick(tmp_path / "a", seed=1)
    quick(tmp_path / "b", seed=2)
    assert not torch.equal(final(tmp_path / "a")["fc.weight"], final(tmp_path / "b")["fc.weight"])


def test_training_starts_from_given_weights(quick: Quick, recipe: Recipe, tmp_path: Path) -> None:
    net = build("tiny", classes=4, seed=99)
    weights.save(net, tmp_path / "start.safetensors")
    still = dataclasses.replace(recipe, lr=1e-30, weight_decay=0.0)
    quick(tmp_path / "run", recipe=still, weights=tmp_path / "start.safetensors")
    assert torch.equal(final(tmp_path / "run")["fc.weight"], net.get_parameter("fc.weight"))
    start = read_config(tmp_path / "run").start
    assert start is not None and start.path == str(tmp_path / "start.safetensors")


def test_a_run_that_lost_its_first_checkpoint_starts_from_its_weights_again(
    quick: Quick, tmp_path: Path, sums_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights.save(build("tiny", classes=4, seed=99), tmp_path / "start.safetensors")
    quick(tmp_path / "whole", weights=tmp_path / "start.safetensors")
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(loop_module.Training, "go", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            quick(run, weights=tmp_path / "start.safetensors")
    quick(run, resume=True)
    assert sums_of(run) == sums_of(tmp_path / "whole")


# ---- Data ------------------------------------------------------------------------------------------------------------


def test_a_bad_image_is_named_counted_and_left_as_it_is(
    quick: Quick, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = open_data(photos).splits["train"].paths
    assert paths is not None
    content = paths[7].read_bytes()
    quick(tmp_path / "run")
    log = read_log(tmp_path / "run")
    assert [[b.path for b in e.bad] for e in log] == [[str(paths[7])], [], [], []]
    assert [e.train_images for e in log[:3]] == [len(paths) - 1] * 3
    said = capsys.readouterr().err
    assert f"convatlas: 1 image could not be read and took no part:\nconvatlas:   {paths[7]}: " in said
    assert paths[7].read_bytes() == content


def test_many_bad_images_are_told_as_ten_and_a_count(
    quick: Quick, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(photos, tmp_path / "fruit")
    for path in (open_data(folder).splits["train"].paths or ())[:20]:
        path.write_bytes(b"no image")
    quick(tmp_path / "run", data=folder)
    said = capsys.readouterr().err
    assert "convatlas: 20 images could not be read and took no part:\n" in said
    assert "convatlas:   and 10 more; log.jsonl names those of the training and validation images\n" in said
    assert said.count("convatlas:   /") == 10


def test_without_test_images_the_validation_counts_and_says_so(
    quick: Quick, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(photos, tmp_path / "fruit" / "train")
    result = quick(tmp_path / "run", data=tmp_path / "fruit")
    assert result.data is not None and result.data.split == "validation"
    assert result.method.endswith("there are no test images, and these chose the epoch")
    assert "the data has no test images; the result is on the validation images, which also chose the epoch" in (
        capsys.readouterr().err
    )


def test_without_any_held_out_images_there_is_no_accuracy(
    quick: Quick, photos: Path, recipe: Recipe, tmp_path: Path
) -> None:
    shutil.copytree(photos, tmp_path / "fruit" / "train")
    plain = dataclasses.replace(recipe, validation=0.0, schedule="constant")
    result = quick(tmp_path / "run", data=tmp_path / "fruit", recipe=plain)
    assert result.accuracy is None and result.data is None
    assert "not evaluated" in summary(result)
    with pytest.raises(BadRecipe) as caught:
        quick(tmp_path / "other", data=tmp_path / "fruit", recipe=dataclasses.replace(recipe, validation=0.0))
    assert str(caught.value) == (
        "the recipe's schedule is plateau, which needs validation images, and there are none; "
        "use --set validation=0.1, --set watch=training or --set schedule=constant"
    )
    assert not (tmp_path / "other").exists()


# ---- What is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "kind", "line"),
    [
        ({"network": "lenet6"}, UnknownName, "no network named 'lenet6'; did you mean lenet5"),
        ({"workers": -1}, UsageError, "workers is -1; give 0 (load in this process) or more"),
        ({"recipe": Recipe()}, BadRecipe, "the recipe gives neither epochs nor iterations; "),
        ({"recipe": Recipe(epochs=1, augment=("spin",))}, BadRecipe, "no augmentation named 'spin'; "),
        (
            {"recipe": Recipe(epochs=1, size=2)},
            BadInput,
            "tiny cannot take images of 2x2; the smallest that works is 4x4",
        ),
        ({"device": "abacus"}, UsageError, "device 'abacus' cannot be used: "),
        ({"data": "nowhere"}, BadData, "nowhere does not exist; "),
        ({"weights": Path("none.pth")}, BadCheckpoint, "none.pth cannot be read: no such file or directory; "),
    ],
    ids=lambda v: str(v) if isinstance(v, dict) else "",
)
def test_what_cannot_be_trained_leaves_no_folder(
    change: dict[str, Any], kind: type[ConvAtlasError], line: str, quick: Quick, tmp_path: Path
) -> None:
    with pytest.raises(kind) as caught:
        quick(tmp_path / "run", **change)
    assert str(caught.value).startswith(line)
    assert list(tmp_path.iterdir()) == []


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_a_folder_that_holds_something_is_left_untouched(quick: Quick, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("text")
    file = tmp_path / "file"
    file.write_text("text")
    run = tmp_path / "run"
    quick(run)
    before = content(tmp_path)
    for out, resume, line in (
        (other, False, f"{other} is not empty; choose another --out, a run folder starts out empty or missing"),
        (other, True, f"{other} is no run folder, it has no config.json; choose another --out, or leave --resume out"),
        (file, False, f"{file} is not empty; choose another --out, a run folder starts out empty or missing"),
        (run, False, f"{run} already holds a run; --resume goes on with it, another --out starts a new one"),
    ):
        with pytest.raises(UsageError) as caught:
            quick(out, resume=resume)
        assert str(caught.value) == line
    assert content(tmp_path) == before


def test_a_finished_run_gives_its_result_again(
    quick: Quick, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = quick(tmp_path / "run")
    before = content(tmp_path / "run")
    capsys.readouterr()
    assert quick(tmp_path / "run", recipe=None, resume=True) == first
    assert capsys.readouterr().err == (
        f"convatlas: {tmp_path / 'run'} is finished; its result of {first.when} stands\n"
    )
    assert content(tmp_path / "run") == before


def test_a_missing_run_starts_under_resume(quick: Quick, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "run").mkdir()
    quick(tmp_path / "run", resume=True)
    assert capsys.readouterr().err.startswith(f"convatlas: nothing to resume in {tmp_path / 'run'}; a new run starts\n")


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"network": "lenet5_relu"}, "was started with network tiny, not lenet5_relu; "),
        ({"seed": 3}, "was started with seed 0, not 3; "),
        ({"lr": 0.2}, "was started with recipe field lr 0.1, not 0.2; "),
        ({"augment": ()}, "was started with recipe field augment flip, not none; "),
        ({"weights": Path("start.safetensors")}, "was started from fresh weights, not from start.safetensors; "),
    ],
    ids=lambda v: str(v) if isinstance(v, dict) else "",
)
def test_a_resume_of_something_else_names_the_difference(
    change: dict[str, Any], line: str, quick: Quick, recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    weights.save(build("tiny", classes=4), tmp_path / "start.safetensors")
    run = tmp_path / "run"
    quick(run)
    fields = {k: change.pop(k) for k in ("lr", "augment") if k in change}
    with pytest.raises(UsageError) as caught:
        quick(run, resume=True, recipe=dataclasses.replace(recipe, **fields), **change)
    assert str(caught.value).startswith(f"{run} {line}")


def test_a_resume_on_other_data(quick: Quick, photos: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(photos, tmp_path / "fruit")
    run = tmp_path / "run"
    quick(run, data=folder)
    moved = folder.rename(tmp_path / "moved")
    quick(run, data=moved, resume=True)  # the same images elsewhere are the same data
    with pytest.raises(UsageError) as other:
        quick(run, data="digits", resume=True)
    assert str(other.value) == (
        f"{run} was started on {folder}, not on digits, and their images differ; "
        "give the same data to resume it, or another --out to start a new run"
    )
    folder = moved.rename(folder)
    before = open_data(folder).splits["train"]
    assert before.paths is not None
    digest, gone = before.digest()[:12], before.paths[0]
    gone.write_bytes(before.paths[1].read_bytes())
    with pytest.raises(BadData) as changed:
        quick(run, data=folder, resume=True)
    now = open_data(folder).splits["train"].digest()[:12]
    assert str(changed.value) == (
        f"{folder} has changed since {run} was started: its train split had {len(before)} images (digest {digest}), "
        f"now {len(before)} (digest {now}); put the images back, or start a new run with another --out"
    )


def test_a_resume_elsewhere_warns_of_its_bits(
    quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop_module.Training, "_end_epoch", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        quick(run)
    file = run / "environment.json"
    starts = json.loads(file.read_text())
    starts[0]["machine"]["threads"] = 7
    starts[0]["versions"]["torch"] = "1.0"
    file.write_text(json.dumps(starts))
    quick(run, resume=True)
    assert "convatlas: the last bits may differ from an undisturbed run's: torch 1.0 is now " in capsys.readouterr().err
    assert len(json.loads(file.read_text())) == 2


def test_the_preprocessing_comes_from_recipe_and_training_images(
    quick: Quick, photos: Path, recipe: Recipe, tmp_path: Path
) -> None:
    quick(tmp_path / "run", recipe=dataclasses.replace(recipe, size=12, fit="stretch", crop=0.5))
    p = read_config(tmp_path / "run").spec.preprocess
    assert (p.channels, p.height, p.width, p.fit, p.crop) == (3, 12, 12, "stretch", 0.5)
    from convatlas.data import statistics

    bare = Preprocess(3, 12, 12, fit="stretch", crop=0.5)
    assert (p.mean, p.std) == statistics(open_data(photos).splits["train"], bare)
