"""Counts against a plain loop, labels by name, and what cannot be evaluated."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from convatlas import classifier
from convatlas.classifier import Spec
from convatlas.data import Preprocess, Split, open_data
from convatlas.data.stored import Paths
from convatlas.errors import BadData, UsageError
from convatlas.paper import Recipe
from convatlas.record import to_json
from convatlas.result import Result
from convatlas.train import evaluate, summary
from convatlas.train.checkpoint import Best, Checkpoints, Snapshot, State
from convatlas.train.evaluating.counting import refuse_view
from convatlas.train.evaluating.evaluation import View, count, merged
from convatlas.train.run import DataConfig, RunConfig

CPU = torch.device("cpu")


class ByColour(nn.Module):
    """Answers with the brightest channel, so that its accuracy on coloured images is known beforehand."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3)) * self.scale


def coloured(colours: list[int], labels: list[int]) -> Split:
    images = np.zeros((len(colours), 4, 4, 3), np.uint8)
    for image, colour in zip(images, colours, strict=True):
        image[..., colour] = 200
    return Split("test", np.array(labels), images, classes=("red", "green", "blue"))


VIEW = View(Preprocess(3, 4, 4, fit="stretch"), CPU, 3)


def test_right_answers_are_counted_over_a_last_smaller_batch() -> None:
    split = coloured([0, 1, 2, 0, 1, 2, 0], [0, 1, 2, 1, 1, 0, 0])
    net = ByColour().train()
    counts = count(net, split, VIEW)
    assert (counts.correct, counts.top5_correct, counts.images, counts.bad) == (5, 7, 7, ())
    assert net.training
    right, wrong = np.log(np.exp(200 / 255) + 2) - 200 / 255, np.log(np.exp(200 / 255) + 2)
    assert counts.loss == pytest.approx(5 * right + 2 * wrong, rel=1e-6)


def test_the_classifiers_order_of_classes_is_met_by_number() -> None:
    split = coloured([0, 1, 2], [2, 0, 1])  # the data's classes stand for the network's 1, 2 and 0
    counts = count(ByColour(), split, View(VIEW.preprocess, CPU, 2, classes=(1, 2, 0)))
    assert counts.correct == 3
    assert counts.answers.labels.tolist() == counts.answers.answers.tolist() == [0, 1, 2]


class Patches(nn.Module):
    """Answers by single pixels, so that every view asks something else of it."""

    def forward(self, x: Tensor) -> Tensor:
        return 3 * torch.stack((x[:, 0, 0, 0], x[:, 0, -1, -1], x[:, 0].amax(dim=(1, 2)), x[:, 1, 2, 1]), dim=1)


def specks(images: int, side: int = 20) -> Split:
    pixels = np.random.default_rng(images).integers(0, 256, (images, side, side + 3, 3)).astype(np.uint8)
    return Split("test", np.arange(images) % 4, pixels, classes=("a", "b", "c", "d"))


def test_ten_crop_is_the_mean_softmax_of_torchvisions_crops() -> None:
    from torchvision.transforms import Compose, Normalize, Resize, TenCrop, ToTensor

    split, mean, std = specks(11), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)
    assert split.images is not None
    view = View(Preprocess(3, 14, 14, mean=mean, std=std), CPU, 4, view="ten-crop")
    answers = count(Patches(), split, view).answers
    ten = Compose([Resize(16), TenCrop(14)])
    plain = Compose([ToTensor(), Normalize(mean, std)])
    for row, image in enumerate(split.images):
        crops = torch.stack([plain(crop) for crop in ten(Image.fromarray(image))])
        wanted = Patches()(crops).softmax(dim=1).mean(dim=0)
        assert answers.answers[row] == wanted.argmax()
        assert answers.probabilities[row] == pytest.approx(float(wanted.max()), rel=1e-4)
        assert answers.label_probabilities[row] == pytest.approx(float(wanted[split.labels[row]]), rel=1e-4)
        assert answers.losses[row] == pytest.approx(-float(wanted[split.labels[row]].log()), rel=1e-4, abs=1e-5)


def test_scales_are_whole_images_and_mirrors_averaged(tmp_path: Path) -> None:
    """Photos of different shapes, each by itself through the network."""
    from torchvision.transforms import Resize

    from convatlas.layers import chain

    torch.manual_seed(0)
    net = chain(conv=nn.Conv2d(3, 5, 3, 2), pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), fc=nn.Linear(5, 4))
    draw = np.random.default_rng(1)
    files = []
    for i, size in enumerate(((30, 21), (21, 30), (30, 21), (30, 21), (40, 20))):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(draw.integers(0, 256, (*size, 3)).astype(np.uint8)).save(files[-1])
    files[3].write_bytes(b"")
    split = Split("test", np.array([0, 1, 2, 3, 0]), None, Paths(tuple(files), tmp_path), ("a", "b", "c", "d"))
    view = View(Preprocess(3, 14, 14), CPU, 3, workers=2, view="multi-scale 224,320")
    counts = count(net, split, view)
    assert counts.answers.numbers.tolist() == [0, 1, 2, 4]
    assert [b.path for b in counts.bad] == [str(files[3])]
    net.eval()
    for row, number in enumerate(counts.answers.numbers):
        chances = []
        for side in (14, 20):
            whole = np.array(Resize(side)(Image.open(files[number])))
            for array in (whole, whole[:, ::-1]):
                x = torch.from_numpy(array.copy()).permute(2, 0, 1)[None] / 255
                chances.append(net(x).softmax(dim=1)[0])
        wanted = torch.stack(chances).mean(dim=0)
        assert counts.answers.probabilities[row] == pytest.approx(float(wanted.detach().max()), rel=1e-4)


@pytest.mark.parametrize("view", ["center", "ten-crop"])
@pytest.mark.parametrize("of", [1, 2, 3])
def test_shares_count_each_image_once(tmp_path: Path, view: str, of: int) -> None:
    """Seven photos of which two are bad; with three shares one of them has nothing but bad ones."""
    files = []
    for i in range(7):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(np.full((9, 9, 3), (30 * i, 200 - 20 * i, 90), np.uint8)).save(files[-1])
    for i in (2, 5):
        files[i].write_bytes(b"cut")
    split = Split("test", np.arange(7) % 3, None, Paths(tuple(files), tmp_path), ("red", "green", "blue"))
    way = View(Preprocess(3, 4, 4, fit="stretch"), CPU, 2, view=view)
    whole = count(ByColour(), split, way)
    parts = [count(ByColour(), split, replace(way, share=(rank, of))) for rank in range(of)]
    found = merged(parts)
    assert whole.answers.numbers.tolist() == found.answers.numbers.tolist() == [0, 1, 3, 4, 6]
    assert found.answers.answers.tolist() == whole.answers.answers.tolist()
    assert (found.correct, found.top5_correct, found.bad) == (whole.correct, whole.top5_correct, whole.bad)
    assert found.loss == pytest.approx(whole.loss, rel=1e-6)
    assert sorted(b.path for b in found.bad) == [str(files[2]), str(files[5])]


def test_more_shares_than_images() -> None:
    split = coloured([0, 1], [0, 0])
    parts = [count(ByColour(), split, replace(VIEW, share=(rank, 4))) for rank in range(4)]
    assert [p.images for p in parts] == [1, 1, 0, 0]
    assert (merged(parts).correct, merged(parts).images) == (1, 2)


def test_a_view_that_the_network_has_not() -> None:
    net = ByColour().train()
    with pytest.raises(UsageError) as caught:
        refuse_view(net, VIEW.preprocess, "dense")
    assert str(caught.value) == (
        "the network cannot be slid over larger images: no layer flattens its maps; use the test view center or "
        "ten-crop"
    )
    assert net.training
    refuse_view(net, VIEW.preprocess, "ten-crop")


def test_nothing_can_be_read(tmp_path: Path) -> None:
    files = [tmp_path / f"{i}.png" for i in range(2)]
    for file in files:
        file.write_bytes(b"no image")
    split = Split("test", np.array([0, 1]), None, Paths(tuple(files), tmp_path), ("a", "b"))
    with pytest.raises(BadData, match="of the test split"):
        count(ByColour(), split, VIEW)


# ---- evaluate --------------------------------------------------------------------------------------------------------

NAMES = ("red", "green", "blue")


def painted(folder: Path, images: dict[str, list[int]]) -> Path:
    """test/CLASS/ with images of the given colours."""
    for name, colours in images.items():
        for split in ("train", "test"):
            (folder / split / name).mkdir(parents=True)
            for i, colour in enumerate(colours):
                pixels = np.zeros((16, 16, 3), np.uint8)
                pixels[..., colour] = 200
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    return folder


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run folder whose network answers with the brightest channel."""
    monkeypatch.setattr(Spec, "build", lambda self, seed=0: ByColour())
    folder = tmp_path / "run"
    checkpoints = Checkpoints(folder)
    checkpoints.make()
    net = ByColour()
    checkpoints.save(Snapshot(State(step=1, best=Best(1, 1, 1, 0.5)), net.state_dict(), {}))
    spec = Spec("tiny", NAMES, Preprocess(3, 16, 16, fit="stretch"))
    data = DataConfig("nowhere", "nowhere", "", {}, {})
    (folder / "config.json").write_text(to_json(RunConfig(spec, Recipe(epochs=1), "own", data, 0)))
    return folder


def test_labels_are_matched_by_name(run: Path, tmp_path: Path) -> None:
    """A folder without `green` numbers its classes blue 0, red 1; the network knows red 0, green 1, blue 2."""
    data = painted(tmp_path / "data", {"red": [0, 0, 2], "blue": [2, 1]})
    result = evaluate(run, data, device="cpu", batch=2)
    accuracy = result.accuracy
    assert accuracy is not None
    assert (accuracy.correct, accuracy.top5_correct, accuracy.images, accuracy.unreadable) == (3, 5, 5, 0)
    assert result.kind == "evaluation" and result.classes == 3 and result.network == "tiny"
    assert result.params == 1
    assert result.data is not None
    assert (result.data.name, result.data.split, result.data.images) == ("data", "test", 5)
    assert result.data.digest == open_data(data).splits["test"].digest()
    assert summary(result).splitlines()[:2] == [
        "tiny on data, test split",
        "  top-1  3 of 5 (60.0 %), 95 % interval 23.1 to 88.2 %",
    ]


def test_unreadable_images_are_counted_apart(run: Path, tmp_path: Path) -> None:
    data = painted(tmp_path / "data", {"red": [0, 0, 0], "blue": [2, 2]})
    bad = data / "test" / "red" / "1.png"
    content = bad.read_bytes()[:40]
    bad.write_bytes(content)
    result = evaluate(run, data, device="cpu")
    accuracy = result.accuracy
    assert accuracy is not None
    assert (accuracy.correct, accuracy.images, accuracy.unreadable) == (4, 4, 1)
    assert "  not in these figures: 1 that could not be read" in summary(result)
    assert bad.read_bytes() == content


def test_a_class_that_the_classifier_does_not_know(run: Path, tmp_path: Path) -> None:
    data = painted(tmp_path / "data", {"red": [0], "rot": [0], "grün": [1]})
    with pytest.raises(BadData) as caught:
        evaluate(run, data)
    assert str(caught.value) == (
        f"{data} has the classes 'grün', 'rot', which {run} does not know; it knows 'red', 'green', 'blue'"
    )


def test_a_split_that_is_not_there(run: Path, tmp_path: Path) -> None:
    data = painted(tmp_path / "data", {"red": [0] * 12, "blue": [2] * 12})
    shutil.rmtree(data / "test")
    with pytest.raises(UsageError) as caught:
        evaluate(run, data)
    assert str(caught.value) == f"{data} has no test split; it has train, validation; choose one with --split"


def test_a_batch_of_nothing(run: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^batch is 0; a batch has at least 1 image$"):
        evaluate(run, "digits", batch=0)


def test_a_run_is_evaluated_on_the_split_that_its_training_used(
    quick: Callable[..., Result], photos: Path, tmp_path: Path, recipe: Recipe
) -> None:
    """The held-out images do not follow from the seed, so that runs of several seeds can be compared."""
    trained = quick(tmp_path / "run", seed=5)
    again = evaluate(tmp_path / "run", photos, device="cpu")
    assert again.accuracy == trained.accuracy
    assert again.data == trained.data
    split = open_data(photos, validation=recipe.validation).splits["test"]
    assert trained.data is not None and trained.data.digest == split.digest()


def test_counts_equal_a_loop_over_the_classifiers_own_logits(
    quick: Callable[..., Result], photos: Path, tmp_path: Path, recipe: Recipe
) -> None:
    from convatlas.data import decode

    result = quick(tmp_path / "run")
    found = classifier.load(tmp_path / "run")
    split = open_data(photos, seed=0, validation=recipe.validation).splits["test"]
    assert split.paths is not None
    right = 0
    for path, label in zip(split.paths, split.labels, strict=True):
        logits = found.logits([found.spec.preprocess.array(decode(path, 3))])
        right += int(logits.argmax()) == label
    assert result.accuracy is not None and result.accuracy.correct == right
