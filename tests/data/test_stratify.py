"""Properties of the rule that divides a set."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.data.stratify import divide, folds
from convatlas.errors import BadRecipe

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=200).map(np.array)
SHARES = st.floats(0, 0.95)


@given(LABELS, SHARES, SHARES, st.integers(0, 2**40))
def test_every_image_is_in_exactly_one_part_and_training_keeps_each_class(
    labels: np.ndarray, test: float, validation: float, seed: int
) -> None:
    parts = divide(labels, test=test, validation=validation, seed=seed)
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(labels)))
    assert set(labels[parts["train"]]) == set(labels)
    for part in parts.values():
        assert part.tolist() == sorted(part.tolist())


@given(LABELS, SHARES, st.integers(0, 2**40))
def test_shares_hold_in_each_class_to_half_an_image(labels: np.ndarray, validation: float, seed: int) -> None:
    parts = divide(labels, test=0.2, validation=validation, seed=seed)
    for label in set(labels.tolist()):
        n = (labels == label).sum()
        tests = (labels[parts["test"]] == label).sum()
        held = (labels[parts["validation"]] == label).sum()
        assert abs(tests - n * 0.2) <= 0.5 + 1e-9
        assert abs(held - (n - tests) * validation) <= 0.5 + 1e-9 or held == n - tests - 1


@given(LABELS, SHARES, SHARES, st.integers(0, 2**40))
def test_the_test_split_does_not_depend_on_the_validation_share(
    labels: np.ndarray, one: float, other: float, seed: int
) -> None:
    small, large = (divide(labels, test=0.2, validation=v, seed=seed) for v in sorted((one, other)))
    assert small["test"].tolist() == large["test"].tolist()
    assert set(small["validation"]) <= set(large["validation"])


def test_another_seed_gives_another_split() -> None:
    labels = np.repeat([0, 1], 500)
    one, other = (set(divide(labels, test=0.2, validation=0.1, seed=s)["test"].tolist()) for s in (0, 1))
    assert len(one) == len(other) == 200
    assert 20 < len(one & other) < 60  # 40 expected by chance


@pytest.mark.parametrize("share", [-0.1, 1, 1.5, float("nan")])
def test_a_share_that_cannot_be(share: float) -> None:
    with pytest.raises(BadRecipe) as caught:
        divide(np.array([0, 1]), test=0.2, validation=share, seed=0)
    assert str(caught.value) == (
        f"validation is {share:g}; give the share of the training images to hold out, 0 to below 1"
    )


@given(LABELS.filter(lambda labels: len(labels) >= 2), st.integers(2, 20), st.integers(0, 2**40))
def test_folds_are_even_in_each_class_and_in_all(labels: np.ndarray, k: int, seed: int) -> None:
    k = min(k, len(labels))
    part = folds(labels, k, seed=seed)
    assert part.min() >= 1 and part.max() <= k
    for members in (part, *(part[labels == label] for label in set(labels.tolist()))):
        sizes = np.bincount(members, minlength=k + 1)[1:]
        assert sizes.max() - sizes.min() <= 1
    for label, n in zip(*np.unique(labels, return_counts=True), strict=True):
        if n > 1:
            assert len(set(part[labels == label])) > 1


def test_another_seed_gives_other_folds() -> None:
    labels = np.repeat([0, 1], 500)
    one, other = (folds(labels, 2, seed=s) for s in (0, 1))
    assert 400 < (one == other).sum() < 600  # half of them by chance
    assert np.array_equal(one, folds(labels, 2, seed=0))


@pytest.mark.parametrize("k", [1, 0, -3, 5])
def test_folds_that_cannot_be(k: int) -> None:
    with pytest.raises(BadRecipe) as caught:
        folds(np.array([0, 1, 0, 1]), k, seed=0)
    assert str(caught.value) == f"{k} folds of 4 images; give 2 folds or more, and no more than images"
