"""Features against the networks' own modules, and the probe against scikit-learn and the optimum's own condition."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from convatlas import features, load
from convatlas.classifier import pick_device
from convatlas.cli import main
from convatlas.data import open_data
from convatlas.errors import BadCheckpoint, BadData, BadInput, UnknownName, UsageError
from convatlas.layers import chain
from convatlas.networks import recipe_for
from convatlas.train import Options, train
from convatlas.train.transfer import extracting, probing
from convatlas.train.transfer.extracting import Features, Rows, extract, read, save
from convatlas.train.transfer.probing import CLOSE, STRENGTHS, fit, probe

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def lenet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of `lenet5_relu` on the digits, a few steps long."""
    from dataclasses import replace

    run = tmp_path_factory.mktemp("lenet") / "run"
    recipe = replace(recipe_for("lenet5_relu"), epochs=None, iterations=30, schedule="constant", drops=(), lr=0.02)
    train("lenet5_relu", "digits", run, recipe=recipe, options=Options(device="cpu", workers=0, progress=False))
    return run


def inputs(run: Path, split: str = "test") -> Tensor:
    """What the run's network gets of the digits, by `Preprocess` alone."""
    spec = load(run).spec
    part = open_data("digits").splits[split]
    pictures = [spec.preprocess.array(part.picture(i, 1)) for i in range(len(part))]
    return torch.from_numpy(spec.preprocess.normalise(np.stack(pictures)))


# ---- Extracting ------------------------------------------------------------------------------------------------------


@torch.inference_mode()
def test_features_are_what_the_layer_gives(lenet: Path) -> None:
    net, images = load(lenet).net, inputs(lenet)
    found = {
        (layer, flat): extract(lenet, "digits", layer, splits=["test"], flat=flat, device="cpu").rows["test"].features
        for layer, flat in (("f6", False), ("s4", False), ("s4", True), ("c3.conv", False), ("input", False))
    }
    maps = features(net, ["s2", "s4"], input=(1, 32, 32))(images)["s4"]
    torch.testing.assert_close(found["s4", False], maps.mean(dim=(2, 3)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["s4", True], maps.flatten(1), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["f6", False], net.f6(net.c5(maps)), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found["c3.conv", False], net.c3.conv(net.s2(net.c1(images))).mean(dim=(2, 3)))
    torch.testing.assert_close(found["input", False], images.flatten(1))


def test_all_splits_with_their_labels_and_names(lenet: Path) -> None:
    found, data = extract(lenet, "digits", "f6", device="cpu"), open_data("digits")
    assert list(found.rows) == list(data.splits)
    for name, split in data.splits.items():
        assert found.rows[name].labels.tolist() == split.labels.tolist()
        assert found.rows[name].names == tuple(split.named(i) for i in range(len(split)))


def test_a_file_that_cannot_be_read_has_no_row(photos: Path, quick: Callable[..., object], tmp_path: Path) -> None:
    quick(tmp_path / "run")
    rows = extract(tmp_path / "run", photos, "conv", splits=["train"], device="cpu").rows["train"]
    split = open_data(photos, validation=0.1).splits["train"]
    spoiled = split.named(7)
    assert [b.path for b in rows.bad] == [spoiled]
    good = [i for i in range(len(split)) if i != 7]
    assert rows.names == tuple(map(split.named, good)) and len(rows.features) == len(good)
    assert rows.labels.tolist() == split.labels[good].tolist()


def test_weights_by_file_are_the_runs_own(lenet: Path) -> None:
    run = extract(lenet, "digits", "f6", splits=["test"], device="cpu")
    file = load(lenet).weights_file
    named = extract("lenet5_relu", "digits", "f6", splits=["test"], given=file, device="cpu")
    # The preprocessing of a network by name is the usual one; the digits' recipe has another.
    assert named.weights_digest == run.weights_digest and named.source == str(file)
    assert named.dimensions == 84


def test_random_weights_are_drawn_the_same_and_leave_torchs_state_alone() -> None:
    before = torch.get_rng_state()
    one, two = (
        extract("lenet5_relu", "digits", "f6", splits=["test"], given="random", device="cpu").rows["test"].features
        for _ in range(2)
    )
    assert torch.equal(one, two) and torch.equal(torch.get_rng_state(), before)


def test_torchvisions_weights_come_with_their_preprocessing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The published mean and deviation, and 224 of 256: what torchvision's own entry says."""
    pytest.importorskip("torchvision")
    from torchvision import models

    state = models.resnet18(weights=None).state_dict()
    monkeypatch.setattr("convatlas.foreign.torchvision_state", lambda entry: state)
    found = extracting._classifier("resnet18", "torchvision", open_data("digits"))
    p = found.spec.preprocess
    assert (p.mean, p.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert (p.channels, p.height, p.width, p.crop) == (3, 224, 224, 0.875)
    assert str(found.source) == f"torchvision:{models.get_model_weights('resnet18').DEFAULT.name}"
    assert torch.equal(found.net.conv1.conv.weight, state["conv1.weight"]) and not found.net.training


@pytest.mark.parametrize(
    ("source", "given", "layer", "kind", "message"),
    [
        ("RUN", None, "outputs", UnknownName, "no layer named 'outputs'; did you mean output?"),
        ("RUN", None, "f7", UnknownName, "no layer named 'f7'; the network's are c1, s2, c3, s4, c5, f6, output"),
        ("RUN", None, "", UnknownName, "no layer named ''; the network's are c1, s2, c3, s4, c5, f6, output"),
        ("RUN", "random", "f6", UsageError, "RUN has weights of its own; --weights goes with a network's name"),
        (
            "lenet5_relu",
            None,
            "f6",
            UsageError,
            "lenet5_relu is a network's name and has no weights; add --weights FILE, torchvision or random, "
            "or give a run folder or a bundle",
        ),
        (
            "lenet5_rel",
            "random",
            "f6",
            UnknownName,
            "no run folder, bundle or network named 'lenet5_rel'; did you mean lenet5_relu, lenet5, alexnet_bn?",
        ),
    ],
)
def test_what_cannot_be_extracted_is_said(
    lenet: Path, source: str, given: str | None, layer: str, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind) as error:
        extract(str(lenet) if source == "RUN" else source, "digits", layer, given=given, device="cpu")
    assert str(error.value) == message.replace("RUN", str(lenet))


def test_a_split_that_is_not_there_is_said(lenet: Path) -> None:
    with pytest.raises(UsageError) as error:
        extract(lenet, "digits", "f6", splits=["extra"], device="cpu")
    assert str(error.value) == "digits has no extra split; it has train, validation, test"


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        ("twice", "twice is run 2 times for an image; choose a layer that is run once"),
        ("never", "never is run not at all for an image; choose a layer that is run once"),
        ("pair", "pair gives no row of numbers for each image; choose another layer"),
    ],
)
def test_a_layer_without_features_is_said(layer: str, message: str) -> None:
    class Pair(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.twice, self.never, self.pair = nn.ReLU(), nn.ReLU(), Pair()

        def forward(self, x: Tensor) -> Tensor:
            return self.pair(self.twice(self.twice(x)))[0]

    with pytest.raises(BadInput) as error:
        extracting._check_layer(Odd(), layer, (1, 4, 4), pick_device("cpu"))
    assert str(error.value) == message


# ---- Files -----------------------------------------------------------------------------------------------------------


def test_saved_features_are_read_again_and_damage_is_found(lenet: Path, tmp_path: Path) -> None:
    out = tmp_path / "f6.safetensors"
    found = extract(lenet, "digits", "f6", device="cpu")
    save(found.only(["train", "test"]), out)
    tensors, about = read(out)
    assert sorted(tensors) == ["test.features", "test.labels", "train.features", "train.labels"]
    for name in ("train", "test"):
        assert torch.equal(tensors[f"{name}.features"], found.rows[name].features)
        assert torch.equal(tensors[f"{name}.labels"], found.rows[name].labels)
        assert tuple(about["splits"][name]["names"]) == found.rows[name].names
        assert about["splits"][name]["digest"] == found.data.splits[name].digest()
    assert about["classes"] == [str(i) for i in range(10)] and about["layer"] == "f6" and about["dimensions"] == 84
    with pytest.raises(UsageError) as taken:
        save(found, out)
    assert str(taken.value) == f"{out} exists and is kept; choose another --out"
    content = bytearray(out.read_bytes())
    content[-1] ^= 1
    out.write_bytes(content)
    with pytest.raises(BadCheckpoint) as error:
        read(out)
    assert str(error.value) == (
        f"{out} is damaged or another's: its sha256 is not the one in f6.json; make the features anew"
    )


def test_names_that_cannot_be_written_are_refused_first(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        extracting.refuse_taken(tmp_path / "features.npz")
    assert str(error.value) == (
        f"--out {tmp_path}/features.npz does not end in .safetensors; write for example --out features.safetensors"
    )
    with pytest.raises(UsageError) as error:
        extracting.refuse_taken(tmp_path / "no" / "f.safetensors")
    assert str(error.value) == f"there is no folder {tmp_path}/no for f.safetensors; make it, or choose another --out"


# ---- The probe -------------------------------------------------------------------------------------------------------


def clouds(n: int = 150, d: int = 6, classes: int = 3, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Overlapping normal clouds about a point a class."""
    g = torch.Generator().manual_seed(seed)
    centres = torch.randn(classes, d, generator=torch.Generator().manual_seed(99), dtype=torch.float64)
    labels = torch.arange(n) % classes
    return centres[labels] + torch.randn(n, d, generator=g, dtype=torch.float64), labels


@pytest.mark.parametrize("strength", STRENGTHS)
def test_the_fit_is_scikit_learns(strength: float) -> None:
    linear = pytest.importorskip("sklearn.linear_model", reason="scikit-learn is not installed: no comparison with it")
    x, y = clouds()
    theirs = linear.LogisticRegression(C=1 / (strength * len(x)), tol=1e-10, max_iter=10_000).fit(x.numpy(), y.numpy())
    ours = fit(x, y, strength)
    # Only differences of biases count: a constant added to all of them changes no probability.
    biases = ours[-1] - ours[-1].mean()
    np.testing.assert_allclose(ours[:-1].T.numpy(), theirs.coef_, rtol=2e-3, atol=2e-3)
    np.testing.assert_allclose(biases.numpy(), theirs.intercept_ - theirs.intercept_.mean(), rtol=2e-3, atol=2e-3)
    shares = torch.softmax(x @ ours[:-1] + ours[-1], dim=1).numpy()
    np.testing.assert_allclose(shares, theirs.predict_proba(x.numpy()), atol=1e-3)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_at_the_fit_the_gradient_is_zero(strength: float) -> None:
    """x^T (p - y) / N + strength w = 0, and the mean of p - y for the biases: the condition of the only minimum."""
    x, y = clouds(seed=5)
    theta = fit(x, y, strength)
    off = (torch.softmax(x @ theta[:-1] + theta[-1], dim=1) - nn.functional.one_hot(y)) / len(x)
    assert (x.T @ off + strength * theta[:-1]).abs().max() <= 2 * CLOSE
    assert off.sum(dim=0).abs().max() <= 2 * CLOSE


def made(rows: dict[str, tuple[Tensor, Tensor]]) -> Features:
    parts = {n: Rows(n, x.float(), y, tuple(map(str, range(len(y))))) for n, (x, y) in rows.items()}
    data = open_data("digits")
    return Features("f6", "lenet5_relu", "run", data, parts, load_preprocess(), "0", False)


def load_preprocess() -> "extracting.Preprocess":
    return extracting.Preprocess(1, 32, 32)


def test_the_probe_takes_the_best_strength_and_counts_the_test_images() -> None:
    rows = {name: clouds(n, seed=seed) for name, n, seed in (("train", 90, 1), ("validation", 60, 2), ("test", 300, 3))}
    found = probe(made(rows))
    x, y = rows["train"][0].float().double(), rows["train"][1]
    mean, std = x.mean(dim=0), x.std(dim=0, correction=0)

    def right(name: str, strength: float) -> int:
        theta = fit((x - mean) / std, y, strength)
        here, labels = rows[name]
        return int((((here - mean) / std @ theta[:-1] + theta[-1]).argmax(dim=1) == labels).sum())

    counts = {s: right("validation", s) for s in STRENGTHS}
    assert {t.strength: t.correct for t in found.tried} == counts
    assert found.strength == max(s for s in STRENGTHS if counts[s] == max(counts.values()))
    assert (found.accuracy.correct, found.accuracy.images) == (right("test", found.strength), 300)
    assert probe(made(rows)) == found


def test_a_class_without_training_images_is_never_right_and_a_still_feature_harms_nothing() -> None:
    x, y = clouds(90)
    x[:, 2] = 7.0
    other = torch.where(y == 2, 9, y)
    found = probe(made({"train": (x[y < 2], y[y < 2]), "validation": (x, other), "test": (x, other)}))
    assert found.accuracy.correct <= 60 and found.accuracy.top5_correct == 60
    assert found.accuracy.correct > 40


def test_a_probe_that_cannot_be_fitted_is_said() -> None:
    x, y = clouds(30)
    with pytest.raises(UsageError) as usage:
        probe(made({"train": (x, y), "test": (x, y)}))
    assert str(usage.value) == "a probe needs train, validation and test images; digits has train, test"
    with pytest.raises(BadData) as error:
        probe(made(dict.fromkeys(probing.PARTS, (x, y * 0))))
    assert str(error.value) == "the training images of digits are of one class; a probe tells two or more apart"


# ---- The command -----------------------------------------------------------------------------------------------------


def test_the_command_saves_and_probes(lenet: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "f6.safetensors"
    words = ["features", str(lenet), "digits", "--layer", "f6", "--device", "cpu"]
    assert main([*words, "--out", str(out), "--split", "train,test", "--probe", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    data = open_data("digits")
    assert answer["images"] == {n: len(data.splits[n]) for n in ("train", "test")}
    assert sorted(read(out)[1]["splits"]) == ["test", "train"]
    found = probe(extract(lenet, "digits", "f6", device="cpu"))
    assert answer["probe"] == json.loads(json.dumps(found.as_dict()))
    assert main([*words, "--probe"]) == 0
    a, text = found.accuracy, capsys.readouterr().out.splitlines()
    low, high = (100 * share for share in a.interval)
    assert text[0] == f"linear probe on f6 of lenet5_relu ({lenet}), digits, test split"
    assert text[1] == (
        f"  top-1  {a.correct} of {a.images} ({100 * a.top1:.1f} %), 95 % interval {low:.1f} to {high:.1f} %"
    )


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("--layer f6", 2, "nothing to do with the features; add --out features.safetensors, --probe or both"),
        ("--layer f9 --probe", 2, "no layer named 'f9'; the network's are c1, s2, c3, s4, c5, f6, output"),
        (
            "--layer f6 --out f6.pt",
            2,
            "--out f6.pt does not end in .safetensors; write for example --out features.safetensors",
        ),
    ],
)
def test_mistakes_are_one_line(line: str, code: int, message: str, lenet: Path, capsys: Capture) -> None:
    assert main(["features", str(lenet), "digits", "--device", "cpu", *line.split()]) == code
    out, err = capsys.readouterr()
    assert (out, err.splitlines()) == ("", [f"convatlas: {message}"])


def test_features_stop_where_they_are_asked() -> None:
    """Nothing after the layer is run: here it would fail."""

    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise AssertionError("was run")

    net = chain(a=nn.Conv2d(1, 2, 3), b=Fails())
    x = torch.randn(2, 1, 5, 5)
    assert torch.equal(extracting._output(net, "a", x), net.a(x))
    assert not net.a._forward_hooks
