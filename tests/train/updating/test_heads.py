"""Networks with auxiliary classifiers: they take part in training, and in nothing that comes after."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from convatlas import classifier, weights
from convatlas.account import account
from convatlas.data import open_data
from convatlas.data.loader import Feed
from convatlas.errors import BadCheckpoint
from convatlas.layers import Heads, WithHeads, chain, initialise_torch
from convatlas.networks import NETWORKS, build
from convatlas.paper import Network, Recipe
from convatlas.train import Options, evaluate, read_config, read_log, train
from convatlas.train import loop as loop_module
from convatlas.train.updating.step import optimised

RECIPE = Recipe(epochs=1, batch=128, lr=0.05, fit="pad")


def with_heads(*, classes: int = 10, channels: int = 1, input: tuple[int, int] = (8, 8)) -> WithHeads:
    def head(cin: int) -> nn.Module:
        return chain(pool=nn.AdaptiveAvgPool2d(2), flatten=nn.Flatten(), fc=nn.Linear(4 * cin, classes))

    modules = {
        "conv1": nn.Conv2d(channels, 6, 3, padding=1),
        "relu1": nn.ReLU(),
        "aux1": head(6),
        "conv2": nn.Conv2d(6, 8, 3, 2),
        "relu2": nn.ReLU(),
        "drop2": nn.Dropout(0.2),
        "aux2": head(8),
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "fc": nn.Linear(8, classes),
    }
    return WithHeads(modules, {"aux1": "relu1", "aux2": "relu2"}, 0.3)


@pytest.fixture(autouse=True)
def headed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(NETWORKS, "headed", Network(with_heads, initialise_torch, (1, 8, 8), 10, "small", smallest=4))


def go(run: Path, recipe: Recipe = RECIPE, **options: Any) -> Any:
    options = {"device": "cpu", "save_seconds": 0.0} | options
    return train("headed", "digits", run, recipe=recipe, resume=True, options=Options(**options))


def last(run: Path) -> Path:
    return run / "checkpoints" / (run / "checkpoints" / "last").read_text().strip()


def test_the_loss_is_the_logits_and_each_heads_by_its_weight() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b, c = (torch.randn(5, 3, generator=generator) for _ in range(3))
    labels = torch.tensor([0, 2, 1, 1, 0])
    one = nn.functional.cross_entropy
    logits, loss, _ = optimised(Heads(a, (b, c), 0.3), labels)
    assert logits is a
    torch.testing.assert_close(loss / 5, one(a, labels) + 0.3 * one(b, labels) + 0.3 * one(c, labels))
    torch.testing.assert_close(optimised(a, labels)[1] / 5, one(a, labels))


def test_a_training_follows_that_loss(tmp_path: Path) -> None:
    """Two steps worked out here in float64: the weights, the heads' too, and the log's loss are those."""
    recipe = dataclasses.replace(RECIPE, epochs=None, iterations=2, batch=200, momentum=0.0)
    net = build("headed", seed=0).double()
    net.drop2.p = 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nn.Dropout, "forward", lambda self, x: x)
        go(tmp_path / "run", recipe)
    preprocess = read_config(tmp_path / "run").spec.preprocess
    losses = []
    batches = Feed(open_data("digits").splits["train"], preprocess, (), batch=200, seed=0).batches(0)
    for _, batch in zip(range(2), batches, strict=False):
        net.zero_grad()
        given = net(batch.images.double())
        three = [nn.functional.cross_entropy(logits, batch.labels) for logits in (given.logits, *given.auxiliary)]
        loss = three[0] + 0.3 * three[1] + 0.3 * three[2]
        loss.backward()
        losses.append((loss.item(), three[1].item(), three[2].item()))
        with torch.no_grad():
            for p in net.parameters():
                p -= 0.05 * p.grad
    for name, tensor in weights.load(last(tmp_path / "run") / "model.safetensors").items():
        torch.testing.assert_close(tensor.double(), net.get_parameter(name).data, rtol=1e-4, atol=1e-6)
    (line,) = read_log(tmp_path / "run")
    assert (line.train_loss, *line.head_losses) == pytest.approx(np.mean(losses, axis=0), rel=1e-5)


def test_a_resumed_run_ends_with_the_same_bits(
    tmp_path: Path, sums_of: Callable[[Path], dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    go(tmp_path / "whole")
    run, real, left = tmp_path / "run", loop_module.Training._step, 4

    def until(self: Any, batch: Any) -> float:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return real(self, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop_module.Training, "_step", until)
        go(run)
    go(run)
    assert sums_of(run) == sums_of(tmp_path / "whole")


def test_heads_are_in_checkpoints_and_in_nothing_else(tmp_path: Path) -> None:
    result = go(tmp_path / "run")
    held = weights.load(last(tmp_path / "run") / "model.safetensors")
    assert {"aux1.fc.weight", "aux2.fc.weight"} <= held.keys()
    found = classifier.load(tmp_path / "run")
    assert found.heads and isinstance(found.net, WithHeads) and not found.net.heads
    assert not any(name.startswith("aux") for name in found.net.state_dict())
    assert found.net.train()(torch.zeros(2, 1, 8, 8)).shape == (2, 10)
    found.net.eval()
    without = {name: tensor for name, tensor in held.items() if not name.startswith("aux")}
    weights.save(without, tmp_path / "without.safetensors")
    assert found.shipped() == (tmp_path / "without.safetensors").read_bytes()
    params = sum(tensor.numel() for tensor in without.values())
    assert (result.params, result.weights_bytes) == (params, (tmp_path / "without.safetensors").stat().st_size)
    assert account(found.net, (1, 8, 8)).unused == 0
    again = evaluate(tmp_path / "run", "digits", device="cpu")
    assert (again.accuracy, again.params, again.weights_bytes) == (result.accuracy, params, result.weights_bytes)


def test_heads_do_not_change_the_answers(tmp_path: Path) -> None:
    go(tmp_path / "run")
    whole = build("headed", classes=10)
    weights.fill(whole, weights.load(last(tmp_path / "run") / "model.safetensors"), "")
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(classifier.load(tmp_path / "run").net(images), whole.eval()(images))


def test_a_damaged_head_is_refused(tmp_path: Path) -> None:
    """A checkpoint that lacks a part of a head is no checkpoint of this network."""
    go(tmp_path / "run")
    step = last(tmp_path / "run")
    state = weights.load(step / "model.safetensors")
    del state["aux1.fc.bias"]
    weights.save(state, step / "model.safetensors")
    with pytest.raises(BadCheckpoint, match=r"does not fit the network: - aux1\.fc\.bias \(10,\) \(- expected"):
        classifier.restore(read_config(tmp_path / "run").spec, step / "model.safetensors", tmp_path / "run")
