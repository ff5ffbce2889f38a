"""Several trainings: each is what it would be alone, and the sums are those of a calculation by hand."""

import json
from collections.abc import Callable
from dataclasses import replace
from math import gamma, pi, sqrt
from pathlib import Path

import numpy as np
import pytest

from convatlas.data import open_data
from convatlas.errors import ConvAtlasError, UsageError
from convatlas.paper import Recipe
from convatlas.result import wilson
from convatlas.train import Options, read_config, read_log, several, train
from convatlas.train.several import T95, Held, Several, held_out, t_interval, train_folds, train_seeds

OPTIONS = Options(device="cpu", workers=0, progress=False)
Sums = Callable[[Path], dict[str, str]]


@pytest.fixture
def short(recipe: Recipe) -> Recipe:
    return replace(recipe, epochs=2)


def test_each_seed_is_trained_as_it_would_be_alone(photos: Path, short: Recipe, tmp_path: Path, sums_of: Sums) -> None:
    found = train_seeds("tiny", photos, tmp_path / "three", (1, 5, 2), recipe=short, options=OPTIONS)
    assert found.runs == tuple(tmp_path / "three" / f"seed-{s}" for s in (1, 5, 2))
    train("tiny", photos, tmp_path / "alone", recipe=short, seed=5, options=OPTIONS)
    assert sums_of(found.runs[1]) == sums_of(tmp_path / "alone")
    assert len({sums_of(run)["model.safetensors"] for run in found.runs}) == 3
    assert len({json.dumps(read_config(run).data.digests) for run in found.runs}) == 1
    k, n = [r.accuracy.correct for r in found.results if r.accuracy], 12
    shares = np.array(k) / n
    half = 4.303 * shares.std(ddof=1) / sqrt(3)
    low, high = max(shares.mean() - half, 0), min(shares.mean() + half, 1)
    assert found.as_text().splitlines() == [
        "tiny on fruit, test split",
        *(f"  seed-{s}  {c} of {n} ({100 * c / n:.1f} %)" for s, c in zip((1, 5, 2), k, strict=True)),
        f"  mean    {100 * shares.mean():.1f} %, {100 * shares.min():.1f} to {100 * shares.max():.1f} %; "
        f"95 % t interval of the mean over 3 runs {100 * low:.1f} to {100 * high:.1f} %",
    ]


def test_seeds_that_were_stopped_go_on_and_finished_ones_stand(
    photos: Path, short: Recipe, tmp_path: Path, sums_of: Sums, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train_seeds("tiny", photos, tmp_path / "whole", (1, 2), recipe=short, options=OPTIONS)

    def killed(*args: object, seed: int, **rest: object) -> object:
        if seed == 2:
            raise KeyboardInterrupt
        return train(*args, seed=seed, **rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(several, "train", killed)
        train_seeds("tiny", photos, tmp_path / "cut", (1, 2), recipe=short, options=OPTIONS)
    before = (tmp_path / "cut" / "seed-1" / "results.json").read_bytes()
    again = train_seeds("tiny", photos, tmp_path / "cut", (1, 2), recipe=short, resume=True, options=OPTIONS)
    assert (tmp_path / "cut" / "seed-1" / "results.json").read_bytes() == before
    for one, other in zip(whole.runs, again.runs, strict=True):
        assert sums_of(one) == sums_of(other)


def test_folds_hold_out_every_image_once(photos: Path, short: Recipe, tmp_path: Path) -> None:
    found = train_folds("tiny", photos, tmp_path, 3, recipe=short, seed=4, options=OPTIONS)
    assert [run.name for run in found.runs] == ["fold-1of3", "fold-2of3", "fold-3of3"]
    assert [read_config(run).data.fold for run in found.runs] == [(1, 3), (2, 3), (3, 3)]
    splits = open_data(photos).splits
    pool = [s for name in ("train", "validation") for s in map(splits[name].named, range(len(splits[name])))]
    held = [
        open_data(photos, validation=short.validation, fold=(i, 3)).splits["validation"].paths or () for i in (1, 2, 3)
    ]
    assert sorted(path.name for part in held for path in part) == sorted(Path(name).name for name in pool)
    assert len({path for part in held for path in part}) == len(pool)
    assert sum(h.last.images for h in found.held) == len(pool) - 1  # one file is cut short
    counts = [read_log(run)[-1].validation for run in found.runs]
    k, n = sum(c.correct for c in counts if c), len(pool) - 1
    low, high = wilson(k, n)
    assert f"  together   {k} of {n} ({100 * k / n:.1f} %), 95 % interval {100 * low:.1f} to {100 * high:.1f} %" in (
        found.as_text().splitlines()
    )
    again = train_folds("tiny", photos, tmp_path, 3, resume=True, options=OPTIONS)
    assert again == found


def test_the_last_epoch_counts_and_the_best_is_said_to_flatter(
    photos: Path, short: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = train("tiny", photos, tmp_path / "run", recipe=short, options=OPTIONS)
    epoch = read_log(tmp_path / "run")[0]
    assert epoch.validation is not None
    validations = [replace(epoch.validation, correct=c, images=10, loss=x) for c, x in ((4, 2.0), (8, 1.0), (6, 1.5))]
    log = [replace(epoch, validation=v) for v in validations]
    monkeypatch.setattr(several.folder, "read_log", lambda run: log)
    assert held_out(tmp_path) == Held(validations[2], validations[1])
    text = Several((tmp_path / "a", tmp_path / "b"), (result, result), (held_out(tmp_path),) * 2).as_text()
    assert text.splitlines()[-6:] == [
        "each fold's validation images, after the last epoch",
        "  a         6 of 10 (60.0 %)",
        "  b         6 of 10 (60.0 %)",
        "  together  12 of 20 (60.0 %), 95 % interval 38.7 to 78.1 %",  # Wilson, by hand
        "  spread    60.0 to 60.0 %, lowest and highest",
        "  the epochs that these images chose, whose weights are kept: 16 of 20 (80.0 %), which flatters",
    ]


def test_what_cannot_be_done_is_said_before_anything_is_trained(photos: Path, short: Recipe, tmp_path: Path) -> None:
    def refused(go: Callable[[], object]) -> str:
        with pytest.raises(UsageError) as error:
            go()
        assert isinstance(error.value, ConvAtlasError)
        return str(error.value)

    out = tmp_path / "out"
    assert refused(lambda: train_seeds("tiny", photos, out, ())) == "no seed given; write for example --seeds 1,2,3"
    assert refused(lambda: train_seeds("tiny", photos, out, (1, 2, 1))) == (
        "seed 1 is given twice, and would give the same network twice; give different seeds"
    )
    assert refused(lambda: train_folds("tiny", photos, out, 1)) == "folds is 1; give 2 or more, 5 and 10 are usual"
    assert refused(lambda: train_folds("tiny", photos, out, 13)) == (
        "13 folds are more than the 12 images of 'apple', so some would validate without it; "
        "give at most 12 folds, or more images of it"
    )
    assert not out.exists()
    train("tiny", photos, out / "seed-2", recipe=replace(short, epochs=1), options=OPTIONS)
    assert refused(lambda: train_seeds("tiny", photos, out, (1, 2), recipe=short)) == (
        f"{out}/seed-2 already holds a run; --resume goes on with it, another --out starts a new one"
    )
    assert not (out / "seed-1").exists()
    assert refused(lambda: train_seeds("tiny", photos, out / "seed-2", (1, 2), resume=True)) == (
        f"{out}/seed-2 is a run folder itself; choose another --out, the runs are made inside it"
    )


@pytest.mark.parametrize("freedom", range(1, len(T95) + 1))
def test_the_quantiles_cover_what_they_should(freedom: int) -> None:
    """The density of Student's t, integrated by Simpson's rule."""
    top = T95[freedom - 1]
    x = np.linspace(-top, top, 4001)
    scale = gamma((freedom + 1) / 2) / (sqrt(freedom * pi) * gamma(freedom / 2))
    y = scale * (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
    area = (x[1] - x[0]) / 3 * (y[0] + y[-1] + 4 * y[1:-1:2].sum() + 2 * y[2:-1:2].sum())
    assert area == pytest.approx(0.95, abs=5e-5)


def test_an_interval_of_a_mean() -> None:
    assert t_interval([1.0, 3.0]) == pytest.approx((2 - 12.706, 2 + 12.706))  # deviation sqrt(2), over sqrt(2)
