"""Loading what a run folder and a bundle hold."""

import shutil
from pathlib import Path

import pytest

from convatlas.classifier import load
from convatlas.errors import BadCheckpoint, UsageError
from convatlas.train import Options, train


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from convatlas.paper import Recipe

    folder = tmp_path_factory.mktemp("runs") / "run"
    train("lenet5_relu", "digits", folder, recipe=Recipe(epochs=1, batch=256, fit="pad"), options=Options(device="cpu"))
    return folder


def test_a_run_is_loaded_with_its_best_weights_in_evaluation_mode(run: Path) -> None:
    found = load(run)
    assert found.spec.network == "lenet5_relu"
    assert found.spec.classes == tuple("0123456789")
    assert found.weights_file.parent.name == (run / "checkpoints" / "best").read_text().strip()
    assert not found.net.training


def test_a_damaged_best_checkpoint_is_refused_not_replaced(run: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    name = (copy / "checkpoints" / "best").read_text().strip()
    file = copy / "checkpoints" / name / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(BadCheckpoint) as caught:
        load(copy)
    size = file.stat().st_size
    assert str(caught.value) == (
        f"the best checkpoint {name!r} of {copy} is damaged: model.safetensors has {size} bytes, expected {size + 1}; "
        "train again to get it back"
    )


@pytest.mark.parametrize("text", ["../../etc", "step-1/../..", ""])
def test_a_pointer_leads_nowhere_else(run: Path, tmp_path: Path, text: str) -> None:
    copy = shutil.copytree(run, tmp_path / "run")
    (copy / "checkpoints" / "best").write_text(text)
    with pytest.raises(BadCheckpoint, match=r"is damaged: it names no checkpoint; train again to get it back$"):
        load(copy)


def test_what_is_no_classifier(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"is neither a run folder \(no checkpoints/\) nor a bundle"):
        load(tmp_path)
    with pytest.raises(UsageError, match=r"^no run folder or bundle at "):
        load(tmp_path / "none")
