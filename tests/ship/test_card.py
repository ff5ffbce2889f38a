"""The model card, as the Hub's own reader sees it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from convatlas import classifier
from convatlas.data import Preprocess
from convatlas.paper import Recipe
from convatlas.result import read_results
from convatlas.ship.card import Training, card, plain

TRAINING = Training(Recipe(epochs=1, drops=(8, 11)), "digits", {"train": 1293}, "as they came")


def spec(classes: tuple[str, ...]) -> classifier.Spec:
    return classifier.Spec("lenet5_relu", classes, Preprocess(1, 32, 32, "pad", 1.0, (0.3,), (0.4,), "bilinear"))


def test_the_hub_reads_the_front_matter(digits_bundle: Path) -> None:
    from huggingface_hub import ModelCard

    data = ModelCard.load(digits_bundle / "README.md").data
    assert (data.library_name, data.pipeline_tag, data.license) == ("convatlas", "image-classification", "unknown")
    assert data.tags == ["image-classification", "convatlas", "lenet5_relu"]
    assert (data.datasets, data.metrics, data.model_name) == (["digits"], ["accuracy"], "lenet5_relu")
    (result,) = data.eval_results
    assert (result.task_type, result.dataset_type, result.dataset_split) == ("image-classification", "digits", "test")
    assert (result.metric_type, result.metric_value) == ("accuracy", 354 / 360)


def test_the_card_says_what_a_reader_needs(digits_bundle: Path) -> None:
    text = (digits_bundle / "README.md").read_text()
    # Wilson 1927 for 354 of 360, as statsmodels' proportion_confint(354, 360, method="wilson") gives it: 0.9641, 0.9923
    assert r"354 of 360 (98.3 %) of the test split of digits; 95 % interval 96.4 % to 99.2 % (Wilson)" in text
    assert "12 epochs, 1 min 15 s" in text
    assert (
        "- Data: digits, 1,293 train, 145 validation, 359 test images; a fifth of each class is the test split" in text
    )
    assert "a processor, 2 cores, 8.00 GB" in text
    assert "convatlas predict . photo.jpg" in text
    assert "model.onnx" not in text


def test_a_run_without_evaluation_claims_nothing() -> None:
    from huggingface_hub import ModelCard

    text = card(spec(("a", "b")), TRAINING, (), ("onnx",))
    assert "Not evaluated yet" in text
    assert "drops 8, 11; " in text
    assert "%" not in text
    assert "`model.onnx` takes `images`" in text
    assert "model-index" not in ModelCard(text).data.to_dict()


@pytest.mark.parametrize(
    "name",
    [
        "<img src=x onerror=alert(1)>",
        "*bold* _it_ `code`",
        "[link](http://a.example)",
        "a|b",
        "www.a.example",
        "me@a.example",
        "http://a.example",
        "# head",
        "---",
        "日本語",
        "\\",
    ],
)
def test_names_stand_as_text(name: str) -> None:
    from html.parser import HTMLParser

    text = card(spec((name, "other")), TRAINING)
    assert plain(name) in text
    assert "<" not in plain(name)
    assert not any(link in plain(name) for link in ("http:", "www.", "me@"))  # GitHub's autolinks
    shown: list[str] = []
    parser = HTMLParser()
    parser.handle_data = shown.append  # type: ignore[method-assign]
    parser.feed(plain(name))
    parser.close()
    # A backslash before punctuation shows that punctuation (CommonMark 2.4).
    assert _without_backslashes("".join(shown)) == name


def _without_backslashes(text: str) -> str:
    out, i = [], 0
    while i < len(text):
        i += text[i] == "\\"
        out.append(text[i])
        i += 1
    return "".join(out)


def test_a_hostile_data_name_cannot_leave_the_front_matter(make: Callable[..., Path]) -> None:
    from dataclasses import replace

    from huggingface_hub import ModelCard

    (result,) = read_results(make() / "results.json")
    assert result.data is not None
    name = 'x"\n---\nlicense: mit\n# owned'
    text = card(spec(("a", "b")), TRAINING, [replace(result, data=replace(result.data, name=name))])
    assert ModelCard(text).data.datasets == [name]
    assert ModelCard(text).data.license == "unknown"
    assert "\n# owned" not in text


def test_the_test_split_goes_before_a_later_validation(make: Callable[..., Path]) -> None:
    from dataclasses import replace

    (result,) = read_results(make() / "results.json")
    assert result.data and result.accuracy
    later = replace(
        result,
        kind="evaluation",
        data=replace(result.data, split="validation"),
        accuracy=replace(result.accuracy, correct=1),
    )
    assert "354 of 360" in card(spec(("a", "b")), TRAINING, [result, later])
