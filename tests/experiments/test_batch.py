"""The search for the largest batch: where it ends, what it tries, and real trials of a small network."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convatlas.catalogue import catalogue
from convatlas.experiments import batch as work
from convatlas.experiments.answers import Trial
from convatlas.experiments.batch import CLOSE, available_memory, optimiser_state
from convatlas.experiments.trial import Asked
from convatlas.paper import Recipe


@given(largest=st.integers(0, 3000), start=st.integers(1, 3000), most=st.integers(1, 3000))
def test_the_search_ends_near_the_largest(largest: int, start: int, most: int) -> None:
    search, now, tried = work._Search(0, None), min(start, most), 0
    while now is not None:
        assert 1 <= now <= most
        fits = now <= largest
        search = work._Search(now if fits else search.fits, search.refused if fits else now)
        now, tried = search.next(most), tried + 1
        assert tried < 60
    assert search.fits <= min(largest, most)
    assert search.fits == most or min(largest, most) - search.fits <= max(1, search.fits // CLOSE)


def test_an_optimiser_is_the_account_that_keeps_as_much() -> None:
    assert optimiser_state(Recipe(momentum=0)) == "sgd"
    assert optimiser_state(Recipe()) == "momentum"
    assert optimiser_state(Recipe(optimiser="adamw")) == "adam"
    assert optimiser_state(Recipe(optimiser="rmsprop", momentum=0)) == "momentum"
    assert optimiser_state(Recipe(optimiser="rmsprop")) == "adam"


def test_available_memory_is_part_of_the_machine() -> None:
    from convatlas.result import this_machine

    assert 0 < available_memory() <= this_machine().memory_bytes


ASKED = Asked("lenet5_relu", (1, 32, 32), 10, catalogue().recipes["lenet"], "cpu", 10**9)


def test_a_process_that_the_system_ends_is_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def ended(*_: Any, **__: Any) -> Any:
        return type("Done", (), {"returncode": -9, "stdout": "", "stderr": ""})

    monkeypatch.setattr(work.subprocess, "run", ended)
    assert work._try(ASKED, 8) == Trial(8, False, None, "its process was ended by signal 9")


def test_a_peak_over_the_budget_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    answer = json.dumps({"fits": True, "peak": 2 * 10**9, "reason": ""})

    def told(*_: Any, **__: Any) -> Any:
        return type("Done", (), {"returncode": 0, "stdout": answer, "stderr": ""})

    monkeypatch.setattr(work.subprocess, "run", told)
    assert work._try(ASKED, 8) == Trial(8, False, 2 * 10**9, "its peak is over the budget")


@pytest.mark.slow
def test_all_the_training_images_at_once() -> None:
    found = work.batch("lenet5_relu", "digits", budget=4 * 10**9)
    assert found.capped and found.refused is None
    assert [t.fits for t in found.trials] == [True]


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_met() -> None:
    found = work.batch("resnet20_cifar", "digits", budget=100 * 10**6)
    assert found.refused is not None and 0 < found.batch < found.refused
    assert all(t.peak_bytes is None or t.peak_bytes <= 10**8 for t in found.trials if t.fits)
