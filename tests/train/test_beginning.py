"""What a run begins with: refused before anything is written, or whole in its config.json."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from convatlas import classifier
from convatlas.data import Preprocess, open_data
from convatlas.errors import BadRecipe, UsageError
from convatlas.paper import Recipe
from convatlas.result import Result
from convatlas.train import Options, read_config, read_log, train
from convatlas.train.beginning import fresh
from convatlas.train.training import _class_weights

Quick = Callable[..., Result]


def test_whitening_needs_a_chain(quick: Quick, recipe: Recipe, tmp_path: Path) -> None:
    with pytest.raises(BadRecipe) as caught:
        quick(tmp_path / "run", recipe=dataclasses.replace(recipe, whiten="zca"))
    assert str(caught.value) == (
        "whiten=zca needs a network that is one chain of layers, and tiny is none; use --set whiten=none"
    )
    assert not (tmp_path / "run").exists()


def test_whitened_images_are_white(tmp_path: Path) -> None:
    """With the numbers that travel in the weights, the directions that hold something have the same variance."""
    recipe = Recipe(iterations=1, batch=64, lr=1e-6, whiten="zca", fit="stretch", size=32)
    run = tmp_path / "run"
    train("lenet5_relu", "digits", run, recipe=recipe, options=Options(device="cpu"))
    found = classifier.load(run)
    assert found.spec.preprocess.whiten == "zca" and found.spec.preprocess.mean == (0.0,)
    split = open_data("digits").splits["train"]
    images = np.stack([found.spec.preprocess.array(split.picture(i, 1)) for i in range(len(split))])
    pixels = torch.from_numpy(found.spec.preprocess.normalise(images))
    with torch.no_grad():
        white = found.net.get_submodule("whiten")(pixels)
    before, after = (np.linalg.eigvalsh(np.cov(x.flatten(1).double().numpy().T, bias=True)) for x in (pixels, white))
    assert before[-1] > 5 * before[-20]
    assert after[-20] > 0.95 and after[-1] < 1.05  # beyond these, ZCA's 0.1 keeps what is nearly empty small
    answers = found.logits(list(images[:5]))
    assert answers.shape == (5, 10)


def test_a_fold_is_validated_on_its_part(quick: Quick, photos: Path, tmp_path: Path) -> None:
    quick(tmp_path / "run", fold=(2, 3))
    config = read_config(tmp_path / "run")
    assert config.data.fold == (2, 3)
    expected = open_data(photos, fold=(2, 3)).splits["validation"]
    assert config.data.digests["validation"] == expected.digest()
    assert all(e.validation is not None and e.validation.images == len(expected) for e in read_log(tmp_path / "run"))
    with pytest.raises(UsageError) as caught:
        quick(tmp_path / "run", fold=(1, 3), resume=True)
    assert str(caught.value) == (
        f"{tmp_path / 'run'} was started with fold 2 of 3, not with fold 1 of 3; choose another --out"
    )


def test_colours_of_the_images_stand_in_the_configuration(quick: Quick, recipe: Recipe, tmp_path: Path) -> None:
    quick(tmp_path / "run", recipe=dataclasses.replace(recipe, augment=("flip", "pca-colour 0.1")))
    colours = read_config(tmp_path / "run").colours
    assert colours is not None and len(colours.deviations) == 3
    quick(tmp_path / "plain")
    assert read_config(tmp_path / "plain").colours is None


def test_weights_of_classes_are_the_inverse_of_their_shares(quick: Quick, recipe: Recipe, tmp_path: Path) -> None:
    quick(tmp_path / "run", recipe=dataclasses.replace(recipe, balance="weights"))
    config, data = read_config(tmp_path / "run"), open_data("digits")
    weights = _class_weights(config, data, torch.device("cpu"))
    counts = data.splits["train"].counts()
    assert weights is not None
    assert np.allclose(weights.numpy() * counts, counts.sum() / len(counts))  # every class has the same say
    assert (weights.numpy() * counts).sum() == pytest.approx(counts.sum())  # and an image 1 on average


def test_the_kept_weights_are_the_average_and_the_trained_ones_go_on(
    quick: Quick, recipe: Recipe, tmp_path: Path
) -> None:
    from convatlas import weights

    run = tmp_path / "run"
    quick(run, recipe=dataclasses.replace(recipe, average=0.9))
    step = run / "checkpoints" / (run / "checkpoints" / "last").read_text().strip()
    kept, trained = (weights.load(step / f"{name}.safetensors") for name in ("model", "training"))
    assert kept.keys() == trained.keys()
    assert not torch.equal(kept["fc.weight"], trained["fc.weight"])


def test_statistics_are_taken_anew_at_the_end(quick: Quick, recipe: Recipe, photos: Path, tmp_path: Path) -> None:
    from convatlas import weights

    still = dataclasses.replace(recipe, lr=1e-12, augment=(), statistics=1000, epochs=1.0, batch=44)
    run = tmp_path / "run"
    quick(run, recipe=still)
    config = read_config(run)
    net = fresh(config, open_data(photos))
    split = open_data(photos).splits["train"]
    arrays = []
    for i in range(len(split)):
        try:
            arrays.append(config.spec.preprocess.array(split.picture(i, 3)))
        except ValueError:  # the one that is cut short
            continue
    with torch.no_grad():
        maps = net.get_submodule("conv")(torch.from_numpy(config.spec.preprocess.normalise(np.stack(arrays))))
    step = run / "checkpoints" / (run / "checkpoints" / "last").read_text().strip()
    found = weights.load(step / "model.safetensors")
    assert torch.allclose(found["bn.running_mean"], maps.mean(dim=(0, 2, 3)), atol=1e-5)


def test_preprocessing_of_old_runs_reads_without_whitening() -> None:
    from convatlas.record import from_json

    old = b'{"channels":1,"height":8,"width":8,"fit":"crop","crop":0.875,"mean":[0.5],"std":[0.2]}'
    assert from_json(Preprocess, old).whiten == "none"


def test_what_a_python_caller_mistypes_is_refused(quick: Quick, recipe: Recipe, tmp_path: Path) -> None:
    wrong: Any = "adam"
    with pytest.raises(BadRecipe, match="optimiser"):
        quick(tmp_path / "run", recipe=dataclasses.replace(recipe, optimiser=wrong))
    assert not (tmp_path / "run").exists()
