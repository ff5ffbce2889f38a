"""AlexNet's two towers trained on two devices: the same network as on one, resumed to the same bits, shipped as one."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from convatlas import classifier
from convatlas.data.loader import Batch
from convatlas.errors import UsageError
from convatlas.networks import NETWORKS, recipe_for
from convatlas.paper import Recipe
from convatlas.split import Split
from convatlas.train import Options, read_log, train
from convatlas.train.updating.step import Done, Stepper
from convatlas.weights import load, save

from .conftest import make_photos

TWO, ONE = "cpu,cpu", "cpu"
SMALLEST = 67


@pytest.fixture(scope="module")
def fruit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_photos(tmp_path_factory.mktemp("two") / "fruit", each=8)


@pytest.fixture
def three_steps() -> Recipe:
    """At the smallest input; a rate at which three steps change the weights far more than rounding does."""
    changes = {"size": SMALLEST, "fit": "stretch", "augment": ("flip",), "view": "center"}
    return replace(recipe_for("alexnet"), **changes, batch=8, epochs=1, lr=0.002, schedule="constant")


def go(run: Path, data: Path, recipe: Recipe, device: str, **more: Any) -> Path:
    own = {name: more.pop(name) for name in ("weights", "save_seconds") if name in more}
    options = Options(**{"device": device, "workers": 0, "progress": False, "save_seconds": 1000.0} | own)
    train("alexnet", data, run, recipe=recipe, options=options, **more)
    return run


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    last = (run / "checkpoints/last").read_text().strip()
    return load(run / "checkpoints" / last / "model.safetensors")


def test_it_learns_what_one_device_learns(fruit: Path, three_steps: Recipe, tmp_path: Path) -> None:
    """Dropout off, since each device draws it for itself. From larger weights than the paper's, so that all move."""
    torch.manual_seed(0)
    net = NETWORKS["alexnet"].build(classes=4, channels=3, input=(SMALLEST, SMALLEST))
    for parameter in net.parameters():
        if parameter.dim() > 1:
            nn.init.kaiming_normal_(parameter, nonlinearity="relu")
    start = {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}
    save(start, tmp_path / "start.safetensors")
    recipe = replace(three_steps, dropout=0.0, clip=1.0)
    two, one = (
        weights_of(go(tmp_path / device, fruit, recipe, device, weights=tmp_path / "start.safetensors"))
        for device in (TWO, ONE)
    )
    assert read_log(tmp_path / TWO)[-1].step == 3 and two.keys() == one.keys() == start.keys()
    for name, tensor in two.items():
        assert torch.allclose(tensor, one[name], rtol=0, atol=1e-5), name
        moved = one[name] - start[name]
        assert float((tensor - one[name]).norm()) < 1e-2 * float(moved.norm()), name


class Killed(BaseException):
    pass


def test_killed_and_resumed_it_ends_with_the_same_bits(
    fruit: Path,
    three_steps: Recipe,
    tmp_path: Path,
    sums_of: Callable[[Path], dict[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With dropout, momentum of both halves and a step between two checkpoints that is done again."""
    whole = go(tmp_path / "whole", fruit, three_steps, TWO)
    step = Stepper.step

    def dying(self: Stepper, batch: Batch, rate: float, number: int, *rest: Any) -> Done:
        if number == 2:
            raise Killed
        return step(self, batch, rate, number, *rest)

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Stepper, "step", dying)
        go(tmp_path / "run", fruit, three_steps, TWO, save_seconds=0.0)
    run = go(tmp_path / "run", fruit, three_steps, TWO, resume=True)
    assert sums_of(run) == sums_of(whole)
    found = classifier.load(run)  # what is kept is the ordinary alexnet
    assert found.spec.network == "alexnet" and not isinstance(found.net, Split)
    kept = weights_of(run)
    assert all(torch.equal(kept.pop(name), tensor) for name, tensor in found.net.state_dict().items()) and not kept


@pytest.mark.parametrize("changes", [{"freeze": ("conv1",)}, {"average": 0.9}, {"layer_lr": ("conv1=0.1",)}])
def test_what_two_devices_cannot_do(changes: dict[str, Any], fruit: Path, three_steps: Recipe, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        go(tmp_path / "run", fruit, replace(three_steps, **changes), TWO)
    assert str(caught.value) == "on two devices alexnet trains without average, freeze and layer_lr; use one --device"
    assert not (tmp_path / "run").exists()


def test_other_networks_train_on_one(fruit: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        train("lenet5", fruit, tmp_path / "run", options=Options(device=TWO))
    assert str(caught.value) == (
        "--device cpu,cpu names 2 devices; only alexnet trains on two, one a tower; "
        "torchrun trains any network on several"
    )
