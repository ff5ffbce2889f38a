"""Trainings that start from other people's weights: what is taken is said, stored, and the same after a resume."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from convatlas import weights
from convatlas.errors import BadCheckpoint, BadInput, ConvAtlasError, UnknownName, UsageError
from convatlas.layers import chain, conv_bn, initialise_torch
from convatlas.networks import NETWORKS, build
from convatlas.paper import Foreign, Network, Recipe
from convatlas.result import Result
from convatlas.train import loop as loop_module
from convatlas.train import read_config

Quick = Callable[..., Result]
Sums = Callable[[Path], dict[str, str]]
RULES = ((r"^conv1\.conv\.", "features.0."), (r"^conv1\.bn\.", "features.1."), (r"^fc\.", "classifier.1."))


def like_squeezenet(*, classes: int = 4, channels: int = 3, input: tuple[int, int] = (16, 16)) -> nn.Module:
    return chain(
        conv1=conv_bn(channels, 8, 3, 2),
        relu1=nn.ReLU(inplace=True),
        pool1=nn.AdaptiveAvgPool2d(1),
        flatten=nn.Flatten(),
        fc=nn.Linear(8, classes),
    )


FILE = "squeezenet1_1-b8a52dc0.pth"  # torchvision's name for the weights of the network that this one stands for


@pytest.fixture(autouse=True)
def borrowed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The network `borrowed`, "whose layers torchvision has", and torch's cache with its weights for 9 classes."""
    network = Network(like_squeezenet, initialise_torch, (3, 16, 16), 4, "small", smallest=4)
    known = Foreign("torchvision", "squeezenet1_1", RULES)
    monkeypatch.setitem(NETWORKS, "borrowed", dataclasses.replace(network, foreign=known))
    cache = tmp_path / "torch" / "hub" / "checkpoints"
    cache.mkdir(parents=True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *a, **k: pytest.fail("a download was tried"))
    torch.save(weights.to_foreign(build("borrowed", classes=9, seed=9), known), cache / FILE)
    return cache / FILE


@pytest.fixture
def still(recipe: Recipe) -> Recipe:
    """Steps that change no weight."""
    return dataclasses.replace(recipe, lr=1e-30, weight_decay=0.0)


def final(run: Path) -> dict[str, torch.Tensor]:
    last = (run / "checkpoints" / "last").read_text().strip()
    return weights.load(run / "checkpoints" / last / "model.safetensors")


@pytest.mark.parametrize("given", ["torchvision", "torchvision:IMAGENET1K_V1", "file"])
def test_all_but_the_head_is_taken_and_it_is_said(
    given: str, borrowed: Path, quick: Quick, still: Recipe, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    quick(run, network="borrowed", recipe=still, weights=borrowed if given == "file" else given)
    said = capsys.readouterr().err.splitlines()[0]
    assert said == (
        "convatlas: weights: torchvision's squeezenet1_1, 6 of 8 entries; "
        "the head fc (9 classes) was left as initialised for 4"
    )
    source, fresh = build("borrowed", classes=9, seed=9), build("borrowed", classes=4, seed=0)
    trained = final(run)
    assert torch.equal(trained["conv1.conv.weight"], source.get_parameter("conv1.conv.weight"))
    assert torch.equal(trained["fc.weight"], fresh.get_parameter("fc.weight"))
    start = read_config(run).start
    assert start is not None
    if given == "file":
        assert start.path == str(borrowed)
    else:
        assert start.path == "torchvision:IMAGENET1K_V1"  # what the default is today is written out
        assert start.sha256 == weights.digest(torch.load(borrowed, weights_only=True))


@pytest.mark.parametrize("given", ["torchvision", "file"])
@pytest.mark.parametrize("steps", [0, 3])
def test_a_resume_ends_with_the_same_bits(
    given: str, steps: int, borrowed: Path, quick: Quick, tmp_path: Path, sums_of: Sums, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before the first checkpoint, the start is read again; after it, nobody asks for it any more."""
    start = {"network": "borrowed", "weights": borrowed if given == "file" else given}
    quick(tmp_path / "whole", **start)
    run, real, left = tmp_path / "run", loop_module.Training._step, steps

    def until(self: Any, batch: Any) -> float:
        nonlocal left
        if not left:
            raise KeyboardInterrupt
        left -= 1
        return real(self, batch)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop_module.Training, "_step", until)
        quick(run, save_seconds=0.0, **start)
    if steps:
        borrowed.unlink()
    quick(run, network="borrowed", resume=True, save_seconds=0.0)
    assert sums_of(run) == sums_of(tmp_path / "whole")


def test_a_start_that_changed_before_the_first_checkpoint_is_refused(
    borrowed: Path, quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop_module.Training, "go", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        quick(run, network="borrowed", weights="torchvision")
    torch.save({n: t + 1 for n, t in torch.load(borrowed, weights_only=True).items()}, borrowed)
    with pytest.raises(BadCheckpoint) as caught:
        quick(run, network="borrowed", resume=True)
    assert str(caught.value) == (f"torchvision:IMAGENET1K_V1 has changed since {run} was started from it; put it back")


def test_a_resume_may_name_the_same_start_again_and_no_other(borrowed: Path, quick: Quick, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = quick(run, network="borrowed", weights="torchvision")
    borrowed.unlink()
    for again in ("torchvision", "torchvision:IMAGENET1K_V1"):
        assert quick(run, network="borrowed", weights=again, resume=True) == first
    weights.save(build("borrowed"), tmp_path / "own.safetensors")
    with pytest.raises(UsageError) as caught:
        quick(run, network="borrowed", weights=tmp_path / "own.safetensors", resume=True)
    assert str(caught.value) == (
        f"{run} was started from torchvision:IMAGENET1K_V1, not from {tmp_path}/own.safetensors; "
        "leave --weights out to resume it"
    )


@pytest.mark.parametrize(
    ("change", "kind", "line"),
    [
        (
            {"network": "tiny", "weights": "torchvision"},
            UsageError,
            "torchvision has no network with the layers of tiny, so none of its weights fit; they fit ",
        ),
        (
            {"network": "borrowed", "weights": "torchvision:V9"},
            UnknownName,
            "no weights of torchvision's squeezenet1_1 named 'V9'; known: IMAGENET1K_V1",
        ),
        (
            {"network": "borrowed", "data": "digits", "weights": "torchvision"},
            BadCheckpoint,
            "torchvision:IMAGENET1K_V1 does not fit the network: "
            "- features.0.weight (8, 1, 3, 3) + features.0.weight (8, 3, 3, 3) (- expected, + found); ",
        ),
    ],
    ids=["not theirs", "no such weights", "grey images"],
)
def test_what_does_not_fit_leaves_no_run(
    change: dict[str, Any], kind: type[ConvAtlasError], line: str, quick: Quick, recipe: Recipe, tmp_path: Path
) -> None:
    if change.get("data") == "digits":
        change = {**change, "recipe": dataclasses.replace(recipe, size=16)}
    with pytest.raises(kind) as caught:
        quick(tmp_path / "run", **change)
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_module_cannot_be_trained(quick: Quick, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = Network(lambda **_: nn.Conv2d(8, 8, 3), initialise_torch, (8, 16, 16), 0)
    monkeypatch.setitem(NETWORKS, "inception_small", module)
    with pytest.raises(BadInput) as caught:
        quick(tmp_path / "run", network="inception_small")
    assert str(caught.value) == (
        "inception_small is a module and gives feature maps, not classes; train a network that is made of it"
    )
    assert caught.value.exit_code == 2
    assert not (tmp_path / "run").exists()


def test_the_config_names_the_file_and_its_digest(borrowed: Path, quick: Quick, tmp_path: Path) -> None:
    quick(tmp_path / "run", network="borrowed", weights=borrowed)
    record = json.loads((tmp_path / "run" / "config.json").read_text())
    assert record["start"] == {"path": str(borrowed), "sha256": hashlib.sha256(borrowed.read_bytes()).hexdigest()}
