"""Exported files: equal to the weights from image bytes, or not there at all."""

import importlib.util
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from convatlas import classifier, networks, weights
from convatlas.data import open_data
from convatlas.errors import BadCheckpoint, BadData, ExportMismatch, MissingExtra, UnknownName, UsageError
from convatlas.files import sha256
from convatlas.layers import WithHeads, initialise_torch
from convatlas.paper import Network
from convatlas.ship import export, replay
from convatlas.ship.exporting import held_out, onnx_runner, prove, replay_originals, to_onnx
from convatlas.train import evaluate

Make = Callable[..., Path]
module = sys.modules["convatlas.ship.exporting"]


@pytest.fixture(scope="module")
def onnx_bundle(digits_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(digits_run, tmp_path_factory.mktemp("onnx") / "bundle", to=("onnx",))


def as_a_stranger_would(bundle: Path, content: bytes) -> np.ndarray:
    """Logits of an image's bytes by the ONNX file and its own metadata alone: no line of ours is used."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(bundle / "model.onnx"), providers=["CPUExecutionProvider"])
    facts = json.loads(session.get_modelmeta().custom_metadata_map["preprocess"])
    assert (facts["fit"], facts["height"], facts["width"]) == ("pad", 32, 32)
    picture = Image.open(io.BytesIO(content)).convert("L").resize((32, 32), Image.Resampling.BILINEAR)
    pixels = np.asarray(picture).astype(np.float32) / 255
    images = ((pixels - facts["mean"][0]) / facts["std"][0])[None, None].astype(np.float32)
    (name,) = [i.name for i in session.get_inputs()]
    (out,) = [o.name for o in session.get_outputs()]
    assert (name, out) == ("images", "logits")
    return session.run(None, {name: images})[0][0]


def test_onnx_answers_as_the_bundle_stored_it(onnx_bundle: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(onnx_bundle / "model.onnx"), providers=["CPUExecutionProvider"])
    classes = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    for image in json.loads((onnx_bundle / "replay.json").read_text())["images"]:
        logits = as_a_stranger_would(onnx_bundle, (onnx_bundle / image["file"]).read_bytes())
        assert logits == pytest.approx(image["logits"], abs=1e-4)
        assert classes[int(logits.argmax())] == image["answer"]


def test_onnx_is_a_valid_file_with_its_facts_inside(onnx_bundle: Path) -> None:
    import onnx

    model = onnx.load(onnx_bundle / "model.onnx")
    onnx.checker.check_model(model, full_check=True)
    facts = {p.key: p.value for p in model.metadata_props}
    assert sorted(facts) == ["classes", "convatlas", "network", "preprocess", "weights_sha256"]
    assert json.loads(facts["classes"]) == list("0123456789")
    assert facts["network"] == "lenet5_relu"
    assert facts["weights_sha256"] == sha256(onnx_bundle / "model.safetensors")
    size = model.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in size] == ["batch", 1, 32, 32]
    # Neither paths of the machine that made it nor weights outside the file.
    assert str(Path(torch.__file__).parents[1]).encode() not in (onnx_bundle / "model.onnx").read_bytes()
    assert str(Path(__file__).parents[2]).encode() not in (onnx_bundle / "model.onnx").read_bytes()


@pytest.mark.parametrize("count", [1, 2, 7])
def test_onnx_takes_any_batch_size(onnx_bundle: Path, count: int) -> None:
    run = onnx_runner((onnx_bundle / "model.onnx").read_bytes())
    source = classifier.load(onnx_bundle)
    images = torch.rand(count, 1, 32, 32, generator=torch.Generator().manual_seed(count))
    with torch.no_grad():
        expected = source.net(images).numpy()
    assert run(images.numpy()) == pytest.approx(expected, abs=1e-5)


def test_export_is_silent_and_leaves_the_random_state(
    digits_run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = torch.get_rng_state()
    made = export(digits_run, tmp_path / "bundle")
    assert capfd.readouterr() == ("", "")
    assert torch.equal(before, torch.get_rng_state())
    assert made == tmp_path / "bundle"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle"]


def test_the_same_run_gives_the_same_bytes(digits_run: Path, onnx_bundle: Path, tmp_path: Path) -> None:
    again = export(digits_run, tmp_path / "bundle")
    assert (again / "SHA256SUMS").read_text() == (onnx_bundle / "SHA256SUMS").read_text()


def other_weights(source: classifier.Classifier) -> bytes:
    net = source.spec.build()
    net.load_state_dict(source.net.state_dict())
    with torch.no_grad():
        net.output.weight[3] += 0.5
    return to_onnx(classifier.Classifier(net.eval(), source.spec, source.source, source.weights_file))


def test_a_file_that_answers_otherwise_is_refused_and_nothing_stays(
    digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "to_onnx", other_weights)
    with pytest.raises(ExportMismatch) as caught:
        export(digits_run, tmp_path / "bundle")
    said = str(caught.value)
    weights_file = digits_run / "checkpoints" / "step-000000001" / "model.safetensors"
    assert said.startswith(
        f"the ONNX file does not answer like {weights_file}, so nothing was written: logits differ by up to "
    )
    assert "of 16 held-out images get another class, the first wrong one is test image 0 at batch size 1" in said
    assert said.endswith("; please report it, and export without ONNX until then")
    assert caught.value.exit_code == 1
    assert list(tmp_path.iterdir()) == []


def test_the_proof_counts_images_and_names_the_first(digits_run: Path) -> None:
    source = classifier.load(digits_run)
    held = held_out(open_data("digits"), source)

    def run(images: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            logits = source.net(torch.from_numpy(images)).numpy().copy()
        if len(images) > 1:
            order = logits.argsort(1)
            logits[5, order[5, -2]] = logits[5, order[5, -1]] + 0.25  # another class for one image of each batch
        return logits

    with pytest.raises(ExportMismatch) as caught:
        prove("test", run, source, held)
    batches = -(-len(held.arrays) // 32)
    assert len(held.arrays) == 256
    assert (
        f"{batches} of 256 held-out images get another class, the first wrong one is {held.name(5)} at batch size 32"
        in (str(caught.value))
    )
    prove("test", lambda images: source.net(torch.from_numpy(images)).detach().numpy() * (1 + 5e-5), source, held)
    with pytest.raises(ExportMismatch, match=r"0 of 16 held-out images get another class"):
        prove("test", lambda images: source.net(torch.from_numpy(images)).detach().numpy() + 2e-4, source, held)


def test_wrong_preprocessing_is_found_because_the_proof_starts_at_bytes(make: Make, photos: Path) -> None:
    source = classifier.load(make(data=str(photos), channels=3, fit="crop"))
    held = held_out(open_data(photos), source)
    assert len(held.arrays) == 10
    run = onnx_runner(to_onnx(source))
    prove("ONNX", run, source, held)
    with pytest.raises(ExportMismatch):
        prove("ONNX", lambda images: run(images[:, ::-1].copy()), source, held)  # BGR


def test_an_unreadable_photo_is_left_out(make: Make, photos: Path, tmp_path: Path) -> None:
    import shutil

    data = Path(shutil.copytree(photos, tmp_path / "data"))
    (data / "test" / "dress" / "0.jpg").write_bytes(b"\xff\xd8\xff damaged")
    source = classifier.load(make(data=str(data), channels=3, fit="crop"))
    held = held_out(open_data(data), source)
    assert len(held.arrays) == 9
    assert len(replay_originals(held)) == 9


def test_an_existing_folder_is_never_written_over(digits_run: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError) as caught:
        export(digits_run, tmp_path / "mine", to=())
    assert str(caught.value) == (
        f"{tmp_path / 'mine'} exists already and is not written over; choose another folder for the bundle"
    )
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"


def test_usage_faults_are_one_line_each(
    digits_run: Path, digits_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UnknownName) as unknown:
        export(digits_run, tmp_path / "b", to=("onx",))
    assert str(unknown.value) == "no export format named 'onx'; did you mean onnx?"
    with pytest.raises(UsageError) as caught:
        export(digits_bundle, tmp_path / "b")
    assert str(caught.value) == (
        f"{digits_bundle} is no run folder (it has no checkpoints/); "
        f"`convatlas train ... --out {digits_bundle}` makes one"
    )
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxscript" else name)
    with pytest.raises(MissingExtra) as missing:
        export(digits_run, tmp_path / "b")
    assert str(missing.value) == (
        "export to ONNX needs onnxscript, which is not installed; pip install 'convatlas[onnx]'"
    )
    assert list(tmp_path.iterdir()) == []


def test_data_with_other_classes_is_refused(make: Make, tmp_path: Path) -> None:
    run = make(classes=[f"digit {i}" for i in range(10)])
    with pytest.raises(BadData) as caught:
        export(run, tmp_path / "bundle", to=())
    assert str(caught.value) == (
        f"digits has 10 classes, not the 10 of {run}; export needs the data that the run was trained on"
    )


def test_class_names_that_classes_txt_cannot_hold_are_refused_early(make: Make, tmp_path: Path) -> None:
    run = make(classes=["a\nb", *"123456789"])
    with pytest.raises(BadData, match=r"^class name 'a\\nb' is no single line"):
        export(run, tmp_path / "bundle", to=())
    assert not (tmp_path / "bundle").exists()


def test_weights_with_nan_are_refused(make: Make, tmp_path: Path) -> None:
    run = make()
    step = run / "checkpoints" / "step-000000001"
    state = weights.load(step / "model.safetensors")
    state["output.bias"][0] = float("nan")
    from convatlas import files

    files.write_folder(step, lambda beside: weights.save(state, beside / "model.safetensors"))
    with pytest.raises(BadCheckpoint) as caught:
        export(run, tmp_path / "bundle", to=())
    assert str(caught.value) == (
        f"{step / 'model.safetensors'} gives logits that are not finite; train again with a smaller lr"
    )
    assert not (tmp_path / "bundle").exists()


def test_a_full_disk_leaves_nothing(digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    from convatlas.errors import SaveFailed

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(SaveFailed, match=rf"^cannot write {tmp_path / 'bundle'}: No space left on device; "):
        export(digits_run, tmp_path / "bundle", to=())
    assert list(tmp_path.iterdir()) == []


NETWORKS = [
    ("lenet5", "digits", 32, 1),
    pytest.param("plain20_cifar", "digits", 32, 1, marks=pytest.mark.slow),
    pytest.param("resnet20_cifar", "photos", 32, 3),
    pytest.param("resnet18", "photos", 64, 3, marks=pytest.mark.slow),
    pytest.param("resnet50", "photos", 64, 3, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("network", "data", "size", "channels"), NETWORKS)
def test_networks_export_and_answer_alike(
    make: Make, photos: Path, tmp_path: Path, network: str, data: str, size: int, channels: int
) -> None:
    where = str(photos) if data == "photos" else data
    run = make("run", network, where, size=size, channels=channels, fit="pad" if data == "digits" else "crop")
    out = export(run, tmp_path / "bundle")
    source = replay(out)
    answer = onnx_runner((out / "model.onnx").read_bytes())
    images = torch.rand(3, channels, size, size, generator=torch.Generator().manual_seed(1)) * 4 - 2
    with torch.no_grad():
        expected = source.net(images).numpy()
    assert np.abs(answer(images.numpy()) - expected).max() <= 1e-4 * max(1, np.abs(expected).max())


def with_heads(*, classes: int = 10, channels: int = 1, input: tuple[int, int] = (32, 32)) -> WithHeads:
    def head(cin: int) -> nn.Module:
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(cin, classes))

    body = {"conv1": nn.Conv2d(channels, 6, 3, 2), "relu1": nn.ReLU(inplace=True), "aux1": head(6), "fc": head(6)}
    return WithHeads(body, {"aux1": "relu1"}, 0.3)


def test_a_bundle_holds_no_auxiliary_heads(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run has them; bundle and ONNX file do not, and all three answer and count alike."""
    network = Network(with_heads, initialise_torch, (1, 32, 32), 10, "small")
    monkeypatch.setitem(networks.NETWORKS, "headed", network)
    run = make("run", network="headed")
    held = weights.load(run / "checkpoints" / "step-000000001" / "model.safetensors")
    assert any(name.startswith("aux1.") for name in held)
    bundle = export(run, run.with_name("bundle"), to=("onnx",))
    shipped = weights.load(bundle / "model.safetensors")
    assert shipped.keys() == {name for name in held if not name.startswith("aux1.")}
    assert all(torch.equal(tensor, held[name]) for name, tensor in shipped.items())
    found, original = replay(bundle), classifier.load(run)
    assert original.heads and not found.heads
    assert original.weights_bytes == found.weights_bytes == (bundle / "model.safetensors").stat().st_size
    images = torch.rand(5, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = original.net(images)
        assert torch.equal(found.net(images), expected)
    content = (bundle / "model.onnx").read_bytes()
    assert onnx_runner(content)(images.numpy()) == pytest.approx(expected.numpy(), abs=1e-5)
    facts = {p.key: p.value for p in onnx_model(content).metadata_props}
    assert facts["weights_sha256"] == sha256(bundle / "model.safetensors")
    counted = [evaluate(source, "digits", device="cpu") for source in (run, bundle)]
    assert counted[0].accuracy == counted[1].accuracy
    assert [(r.params, r.macs, r.weights_bytes) for r in counted[:1]] == [
        (r.params, r.macs, r.weights_bytes) for r in counted[1:]
    ]


def onnx_model(content: bytes) -> Any:
    import onnx

    return onnx.load_from_string(content)
