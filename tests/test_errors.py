"""Messages in full, and the exit code of every kind."""

import pytest

from convatlas import errors


@pytest.mark.parametrize(
    ("kind", "code", "builtin"),
    [
        (errors.UsageError, 2, ValueError),
        (errors.BadInput, 2, ValueError),
        (errors.BadRecipe, 2, ValueError),
        (errors.BadData, 3, ValueError),
        (errors.BadImage, 3, ValueError),
        (errors.BadCheckpoint, 4, ValueError),
        (errors.BadBundle, 4, ValueError),
        (errors.RunFailed, 1, RuntimeError),
        (errors.NonFinite, 1, RuntimeError),
        (errors.SaveFailed, 1, OSError),
        (errors.ExportMismatch, 1, RuntimeError),
    ],
)
def test_exit_codes_and_builtins(kind: type[errors.ConvAtlasError], code: int, builtin: type[Exception]) -> None:
    error = kind("what was wrong")
    assert str(error) == "what was wrong"
    assert error.exit_code == code
    assert isinstance(error, builtin)


def test_an_unknown_name_suggests_near_ones() -> None:
    error = errors.UnknownName("network", "resnet5", ["resnet50", "resnet34", "alexnet"])
    assert str(error) == "no network named 'resnet5'; did you mean resnet50, resnet34?"
    assert isinstance(error, LookupError)
    assert error.exit_code == 2


def test_an_unknown_name_without_near_ones_shows_all_or_the_hint() -> None:
    assert str(errors.UnknownName("paper", "x", ["b", "a"])) == "no paper named 'x'; known: a, b"
    hinted = errors.UnknownName("network", "x", ["b"], "`convatlas list` shows all")
    assert str(hinted) == "no network named 'x'; `convatlas list` shows all"


def test_a_missing_extra_says_how_to_get_it() -> None:
    error = errors.MissingExtra("onnxscript", "onnx", "export to ONNX")
    assert str(error) == "export to ONNX needs onnxscript, which is not installed; pip install 'convatlas[onnx]'"
    assert isinstance(error, ImportError)


def test_stopped_exits_with_the_signal() -> None:
    assert errors.Stopped("stopped", 15).exit_code == 143
    assert errors.Stopped("stopped", 2).exit_code == 130
