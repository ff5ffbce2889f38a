"""Ensembles: the mean of probabilities by class name, McNemar's test by enumeration, and three seeds on the digits."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convatlas import classifier, files
from convatlas.classifier import Spec
from convatlas.data import open_data
from convatlas.errors import BadData, UsageError
from convatlas.networks import recipe_for
from convatlas.record import to_json
from convatlas.result import wilson
from convatlas.train import evaluate, train
from convatlas.train.evaluating.answers import Answers
from convatlas.train.evaluating.ensemble import Ensemble, common, gain, mcnemar, refuse_other_images, text
from convatlas.train.evaluating.evaluation import examine
from convatlas.train.run import read_config


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (1, 0), (5, 0), (3, 4), (2, 9), (6, 6)])
def test_mcnemar_is_the_binomials_tail_by_enumeration(won: int, lost: int) -> None:
    """Of all ways in which a fair coin decides who won, those at least as uneven."""
    together = np.array([True] * won + [False] * lost + [True, False])
    alone = np.array([False] * won + [True] * lost + [True, False])
    found = mcnemar(together, alone)
    assert (found.won, found.lost) == (won, lost)
    n = won + lost
    ways = [sum(way) for way in product((0, 1), repeat=n)]
    uneven = sum(abs(2 * w - n) >= abs(won - lost) for w in ways) / len(ways)
    assert found.p == pytest.approx(uneven)


def test_mcnemar_of_many_images_is_no_overflow() -> None:
    together = np.array([True] * 3100 + [False] * 2900)
    found = mcnemar(together, ~together)
    z = 200 / np.sqrt(6000)  # the normal approximation
    assert found.p == pytest.approx(2 * 0.5 * (1 - float(torch.erf(torch.tensor(z / np.sqrt(2))))), rel=0.05)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 30), st.integers(1, 4), st.integers(0, 99))
def test_gain_is_the_paired_mean_with_its_standard_error(n: int, members: int, seed: int) -> None:
    draw = np.random.default_rng(seed)
    together, alone = draw.random(n) < 0.7, draw.random((members, n)) < 0.5
    found = gain(together, alone)
    differences = [float(together[i]) - sum(map(float, alone[:, i])) / members for i in range(n)]
    mean = sum(differences) / n
    deviation = (sum((d - mean) ** 2 for d in differences) / (n - 1)) ** 0.5
    assert found.mean == pytest.approx(mean)
    assert found.high - found.low == pytest.approx(2 * 1.959963984540054 * deviation / n**0.5)


def answers(numbers: list[int]) -> Answers:
    zeros = np.zeros(len(numbers))
    whole = zeros.astype(np.int64)
    return Answers(np.array(numbers), whole, whole, zeros.astype(bool), zeros, zeros, zeros)


def test_only_images_that_all_could_read_are_compared() -> None:
    assert [rows.tolist() for rows in common([answers([0, 1, 3]), answers([1, 2, 3])])] == [[1, 2], [0, 2]]
    with pytest.raises(BadData, match=r"^no image can be read by all of the classifiers$"):
        common([answers([0]), answers([1])])


# ---- On the digits --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three seeds of LeNet-5 on the digits, an epoch each; the third one's input is larger."""
    folder = tmp_path_factory.mktemp("seeds")
    torch.set_num_threads(1)
    recipe = replace(recipe_for("lenet5_relu"), epochs=2, schedule="constant", drops=(), batch=32)
    for seed in (1, 2, 3):
        own = replace(recipe, size=36) if seed == 3 else recipe
        train("lenet5_relu", "digits", folder / str(seed), recipe=own, seed=seed)
    return [folder / str(seed) for seed in (1, 2, 3)]


def chances(run: Path) -> np.ndarray:
    """Probabilities of the test images by the classifier itself, as `predict` has them. (N,classes)"""
    found = classifier.load(run)
    split = open_data("digits", validation=read_config(run).recipe.validation).splits["test"]
    arrays = [found.spec.preprocess.array(split.picture(i, 1)) for i in range(len(split))]
    return found.logits(arrays).softmax(1).double().numpy()


def test_three_seeds_on_the_digits(runs: list[Path]) -> None:
    found = evaluate(runs, "digits", device="cpu")
    assert isinstance(found, Ensemble)
    labels = open_data("digits").splits["test"].labels
    every = [chances(run) for run in runs]
    right = np.mean(every, axis=0).argmax(1) == labels
    singles = [each.argmax(1) == labels for each in every]
    assert found.accuracy.correct == right.sum() and found.accuracy.images == len(labels)
    assert found.accuracy.interval == wilson(int(right.sum()), len(labels))
    assert [m.accuracy and m.accuracy.correct for m in found.members] == [s.sum() for s in singles]
    assert found.mean_top1 == pytest.approx(np.mean(singles))
    assert found.gain.mean == pytest.approx(right.mean() - np.mean(singles))
    assert found.gain.mean > 0  # the mean of three uneven networks is better than a network of them
    assert found.best == int(np.argmax([s.sum() for s in singles]))
    assert (found.against_best.won, found.against_best.lost) == (
        (right & ~singles[found.best]).sum(),
        (~right & singles[found.best]).sum(),
    )
    told = text(found)
    assert f"{right.sum()} of {len(labels)}" in told and "McNemar's exact p" in told
    assert told.startswith("digits, test split, view center\n")


def renamed(run: Path, out: Path, order: list[int], names: tuple[str, ...] | None = None) -> Path:
    """A bundle-like copy of a run whose classes, and last layer, stand in another order."""
    import shutil

    from convatlas import weights

    shutil.copytree(run, out)
    config = read_config(out)
    known = config.spec.classes
    spec = Spec(config.spec.network, names or tuple(known[i] for i in order), config.spec.preprocess)
    (out / "config.json").write_text(to_json(replace(config, spec=spec)))
    for step in (out / "checkpoints").glob("step-*"):
        file = step / "model.safetensors"
        state = weights.load(file)
        state |= {name: state[name][order].contiguous() for name in ("output.weight", "output.bias")}

        def fill(folder: Path, state: dict[str, torch.Tensor] = state) -> None:
            weights.save(state, folder / "model.safetensors")

        files.write_folder(step, fill)
    return out


def test_classes_are_matched_by_name_whatever_their_order(runs: list[Path], tmp_path: Path) -> None:
    order = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
    turned = renamed(runs[1], tmp_path / "turned", order)
    plain, mixed = examine(runs[:2], "digits", device="cpu"), examine([runs[0], turned], "digits", device="cpu")
    assert plain.found.accuracy == mixed.found.accuracy
    np.testing.assert_array_equal(plain.counts.answers.answers, mixed.counts.answers.answers)
    np.testing.assert_allclose(plain.counts.answers.probabilities, mixed.counts.answers.probabilities, rtol=1e-5)


def test_members_of_other_classes(runs: list[Path], tmp_path: Path) -> None:
    names = (*map(str, range(9)), "nine")
    other = renamed(runs[1], tmp_path / "other", list(range(10)), names)
    with pytest.raises(UsageError) as caught:
        evaluate([runs[0], other], "digits", device="cpu")
    assert str(caught.value) == (
        f"{other} does not know the class '9' of 11, so its probabilities cannot be averaged with {runs[0]}'s; give "
        "classifiers of the same classes"
    )


def test_members_that_had_other_images(runs: list[Path]) -> None:
    stamp = evaluate(runs[0], "digits", device="cpu").data
    assert stamp is not None
    with pytest.raises(UsageError) as caught:
        refuse_other_images(["a", "b"], [stamp, replace(stamp, digest="other")])
    assert str(caught.value) == (
        "b was trained with another division of the data than a, so this split has other images; evaluate on a split "
        "that does not depend on it, such as --split test"
    )


def test_no_member() -> None:
    with pytest.raises(UsageError, match=r"^no classifier to evaluate; give a run folder or a bundle, or several$"):
        evaluate([], "digits")
