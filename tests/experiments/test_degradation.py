"""Twins by depth: the cut recipe, the verdict from the counts, the gradient norms, and small real trainings."""

import dataclasses
import json
from pathlib import Path

import pytest

from convatlas.catalogue import catalogue
from convatlas.errors import BadCheckpoint, UsageError
from convatlas.experiments.answers import Errors, Norms
from convatlas.experiments.degradation import (
    about_plain,
    about_residual,
    cut,
    degradation,
    layers,
    read_norms,
    twins,
)
from convatlas.paper import Recipe

from .made import found

PAPER = catalogue().recipes["resnet_cifar"]


def test_twins_are_the_papers_depths() -> None:
    """6n + 2 layers, Table 6 and Figure 6."""
    assert twins() == [20, 32, 44, 56, 110]
    assert all((d - 2) % 6 == 0 for d in twins())


def test_a_cut_recipe_drops_at_the_papers_shares() -> None:
    short = cut(PAPER)
    assert short.iterations is not None and PAPER.iterations is not None
    assert [d / short.iterations for d in short.drops] == [d / PAPER.iterations for d in PAPER.drops] == [0.5, 0.75]
    same = ("batch", "lr", "momentum", "weight_decay", "schedule", "augment", "factor")
    assert all(getattr(short, name) == getattr(PAPER, name) for name in same)


def test_epochs_change_the_unit() -> None:
    short = cut(PAPER, 4)
    assert (short.epochs, short.iterations, short.drops) == (4, None, (2, 3))
    assert cut(PAPER, settings=("epochs=4",)) == short
    assert cut(PAPER, settings=("iterations=400",)).drops == (200, 300)
    assert cut(PAPER, 4, ("drops=1", "precision=bf16")).drops == (1,)
    assert cut(Recipe(epochs=10, drops=(5,), warm_up=1), 2).warm_up == 0.2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"depths": (20, 57)},
            "there are no twins of 57 layers; plain and residual networks for small images have 20, 32, 44, 56 or 110, "
            "like --depths 20,56",
        ),
        ({"depths": (20, 20)}, "--depths 20,20 leaves nothing to compare; give two or more"),
        ({"epochs": 0}, "--epochs 0 is no length; give more than 0"),
    ],
)
def test_what_cannot_be_compared_is_refused_first(options: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        degradation("digits", tmp_path / "out", **options)  # type: ignore[arg-type]
    assert str(error.value) == message
    assert not (tmp_path / "out").exists()


def test_intervals_that_meet_are_equal() -> None:
    """Wilson's interval of 100 of 1,000 is 8.3 to 12.0 % (Newcombe 1998, method 3)."""
    base = Errors(100, 1000)
    assert [round(100 * end, 1) for end in base.interval] == [8.3, 12.0]
    assert Errors(110, 1000).against(base) == "equal"
    assert Errors(200, 1000).against(base) == "worse"
    assert base.against(Errors(200, 1000)) == "better"


def test_the_answer_follows_from_the_counts() -> None:
    as_in_the_paper = found(plain=(980, 1230), residual=(880, 800))
    assert about_plain(as_in_the_paper) == (
        "Plain-56 errs more than plain-20 on the very images that both learned from, 12.3 % against 9.8 %: "
        "this is not overfitting, the deeper plain network is harder to train."
    )
    assert about_residual(as_in_the_paper) == (
        "With shortcuts depth does no harm: ResNet-56 errs in 8.0 % of them, ResNet-20 in 8.8 %, "
        "a difference within the 95 % intervals."
    )
    otherwise = found(plain=(980, 990), residual=(500, 1000))
    assert about_plain(otherwise) == (
        "The degradation did not come out here: of its training images plain-56 errs in 9.9 %, plain-20 in 9.8 %, "
        "a difference within the 95 % intervals."
    )
    assert about_residual(otherwise) == (
        "ResNet-56 is worse than ResNet-20 too, 10.0 % against 5.0 %, which is not what the paper found: "
        "it is 5.0 points behind, the plain pair's deeper one 0.1."
    )
    better = found(plain=(1500, 900), residual=(1500, 900))
    assert about_plain(better).endswith("plain-56 errs in 9.0 %, plain-20 in 15.0 %, the deeper one less.")
    assert about_residual(better) == (
        "With shortcuts depth does no harm: ResNet-56 errs in 9.0 % of them, ResNet-20 in 15.0 %."
    )


def test_layers_are_those_with_weights_in_order() -> None:
    from convatlas.networks import build

    names = layers("plain20_cifar")
    assert len(names) == 20
    sizes = {n: p.dim() for n, p in build("plain20_cifar").named_parameters()}
    assert list(names) == [n for n, dim in sizes.items() if dim > 1]


def test_norms_are_read_by_layer_and_epoch(tmp_path: Path) -> None:
    assert read_norms(tmp_path, ("a.weight",)) == ()
    lines = [{"epoch": e, "norms": {"b.weight": 2.0 * e, "a.weight": 0.5, "a.bias": 9.0}} for e in (1, 2)]
    (tmp_path / "gradients.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert read_norms(tmp_path, ("a.weight", "b.weight")) == (Norms(1, (0.5, 2.0)), Norms(2, (0.5, 4.0)))
    with pytest.raises(BadCheckpoint) as error:
        read_norms(tmp_path, ("c.weight",))
    assert str(error.value) == f"{tmp_path}/gradients.jsonl, line 1: KeyError 'c.weight'"


def test_thirds_are_geometric_means() -> None:
    n = Norms(1, (1.0, 4.0, 7.0, 7.0, 2.0, 8.0))
    assert (n.early(), n.late()) == pytest.approx((2, 4))
    assert Norms(1, (0.0, 1.0, 1.0)).early() == 0


@pytest.mark.slow
def test_small_twins_are_trained_judged_and_gone_on_with(tmp_path: Path) -> None:
    settings = ("iterations=4", "batch=32", "precision=fp32")
    first = degradation("digits", tmp_path, depths=(32, 20), settings=settings)
    assert [t.name for t in first.trained] == ["plain-20", "plain-32", "ResNet-20", "ResNet-32"]
    for t in first.trained:
        assert t.training.images == first.images["train"]
        assert len(t.norms) == len(t.curve) == 1
        assert len(t.norms[0].values) == t.depth and min(t.norms[0].values) > 0
    again = degradation("digits", tmp_path, depths=(20, 32), settings=settings)
    assert dataclasses.replace(again, command="") == dataclasses.replace(first, command="")
