"""The paired tests against SciPy's and statsmodels', and what they say of simulated pairs of classifiers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar as their_mcnemar
from statsmodels.stats.multitest import multipletests

from convatlas.compare.difference import verdict
from convatlas.paired import bootstrap, holm, mcnemar

COUNTS = st.integers(0, 200)


@given(COUNTS, COUNTS)
def test_mcnemar_is_the_binomial_test_of_a_half(won: int, lost: int) -> None:
    theirs = stats.binomtest(won, won + lost, 0.5).pvalue if won + lost else 1.0
    assert mcnemar(won, lost) == pytest.approx(theirs, rel=1e-9)


@pytest.mark.parametrize(("won", "lost"), [(0, 0), (0, 1), (5, 0), (12, 5), (22, 2), (40, 60), (150, 90)])
def test_mcnemar_is_statsmodels_exact_one(won: int, lost: int) -> None:
    theirs = their_mcnemar([[300, won], [lost, 50]], exact=True)
    assert mcnemar(won, lost) == pytest.approx(theirs.pvalue if won + lost else 1.0, rel=1e-9)


@pytest.mark.parametrize(("won", "lost", "images"), [(18, 3, 359), (40, 60, 2000), (150, 140, 1000), (1, 0, 50)])
def test_the_interval_is_scipys_percentile_bootstrap(won: int, lost: int, images: int) -> None:
    each = np.repeat([1.0, -1.0, 0.0], [won, lost, images - won - lost])
    draws = np.random.default_rng(1)
    theirs = stats.bootstrap(
        (each,), np.mean, n_resamples=10_000, method="percentile", batch=500, random_state=draws
    ).confidence_interval
    step = 1 / images  # the difference is a whole number of images; two sets of draws may end on neighbouring ones
    noise = 0.04 * each.std() / np.sqrt(images)  # three standard errors of a 2.5 % quantile of 10,000 draws are below
    assert bootstrap(won, lost, images) == pytest.approx(tuple(theirs), abs=step + 2 * noise)


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 100))
def test_the_interval_mirrors_holds_the_difference_and_is_always_the_same(won: int, lost: int, rest: int) -> None:
    images = won + lost + rest
    low, high = bootstrap(won, lost, images)
    if not images:
        assert (low, high) == (-1.0, 1.0)
        return
    assert -1 <= low <= (won - lost) / images <= high <= 1
    bootstrap.cache_clear()
    assert bootstrap(won, lost, images) == (low, high)


@pytest.mark.parametrize("seed", range(8))
def test_holms_correction_is_statsmodels(seed: int) -> None:
    draws = np.random.default_rng(seed)
    p = (draws.random(1 + 2 * seed) ** 3).round(2).tolist()  # small ones, some of them equal
    assert holm(p) == pytest.approx(list(multipletests(p, method="holm")[1]), abs=1e-12)


def test_nothing_tested_needs_no_correction() -> None:
    assert holm([]) == []


# ---- Simulated classifiers -------------------------------------------------------------------------------------------


def trial(seed: int, shares: tuple[float, float], images: int, common: float = 0.6) -> str:
    """The verdict on two classifiers with these true accuracies.

    Their errors are correlated: a share `common` of the images is as hard to both, by one draw that decides for both.
    """
    draws = np.random.default_rng(seed)
    same = draws.random(images) < common
    hard = draws.random(images)
    right = [np.where(same, hard, draws.random(images)) < share for share in shares]
    won, lost = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    return verdict(mcnemar(won, lost), *bootstrap(won, lost, images))


def test_two_classifiers_of_the_same_accuracy_are_too_close_to_call() -> None:
    found = [trial(seed, (0.8, 0.8), 2000) for seed in range(100)]
    assert found.count("too close to call") >= 95


def test_five_points_on_two_thousand_images_are_found() -> None:
    found = [trial(seed, (0.85, 0.8), 2000) for seed in range(100)]
    assert found.count("A is better") >= 90
    assert found.count("B is better") == 0
    found = [trial(seed, (0.8, 0.85), 2000) for seed in range(100)]
    assert found.count("B is better") >= 90


@pytest.mark.slow
@pytest.mark.parametrize("images", [200, 2000])
def test_chance_alone_decides_in_no_more_than_one_trial_of_twenty(images: int) -> None:
    found = [trial(seed, (0.8, 0.8), images) for seed in range(2000)]
    # 5 % of 2,000 trials, and three standard deviations of that count.
    assert len(found) - found.count("too close to call") <= 100 + 3 * (2000 * 0.05 * 0.95) ** 0.5
