"""Engines: every one answers as PyTorch eager does, in the precision that it says, and its errors are one line."""

import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from convatlas.engines import ENGINES, Engine, available, open_engine, precisions
from convatlas.engines import opening as module
from convatlas.engines.with_torch import _Kept
from convatlas.errors import BadInput, MissingExtra, RunFailed, UnknownName, UsageError
from convatlas.layers import drop_heads
from convatlas.networks import build

QUICK = ("torch", "onnxruntime", "openvino")  # the others are the reference itself, and slow to compile
HALF = {"bf16": 0.05, "fp16": 0.02}  # of the largest logit; 8 and 11 significant bits over some dozen layers
SMALL = (("lenet5_relu", (1, 32, 32)), ("nin_bn", (3, 32, 32)))
LARGE = (
    ("resnet20_cifar", (3, 32, 32)),
    ("googlenet", (3, 64, 64)),
    ("alexnet", (3, 99, 67)),
    ("densenet121", (3, 64, 64)),
    ("enet", (3, 64, 64)),
)
LARGE += (("resnext29_8x64d_cifar", (3, 32, 32)), ("preresnet18", (3, 64, 64)), ("squeezenet1_1", (3, 64, 64)))


def images(n: int, shape: tuple[int, int, int]) -> np.ndarray:
    return np.random.default_rng(n).standard_normal((n, *shape), np.float32)


def stirred(net: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(0)
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.2, generator=generator)
            m.running_var.uniform_(0.5, 1.5, generator=generator)
    return net.eval()


def network(name: str, shape: tuple[int, int, int]) -> nn.Module:
    if name.startswith("torchvision:"):
        import torchvision

        return stirred(torchvision.models.get_model(name.partition(":")[2], weights=None))
    net = build(name, input=shape[1:], seed=0)
    drop_heads(net)
    return stirred(net)


def assert_answers_alike(engine: str, net: nn.Module, shape: tuple[int, int, int], precision: str = "fp32") -> None:
    tolerance = HALF.get(precision, 1e-4)
    before = {name: t.clone() for name, t in net.state_dict().items()}
    with open_engine(engine, net, shape, precision=precision) as opened:
        for n in (1, 5, 2):
            x = images(n, shape)
            kept = x.copy()
            with torch.no_grad():
                expected = net(torch.from_numpy(x.copy())).numpy()
            found = opened.run(x)
            assert found.dtype == np.float32 and found.shape == expected.shape
            assert np.abs(found - expected).max() <= tolerance * np.abs(expected).max()
            if precision == "fp32":
                assert (found.argmax(1) == expected.argmax(1)).all()
            opened.ready(x)()
            assert np.array_equal(x, kept)
    assert all(torch.equal(t, before[name]) for name, t in net.state_dict().items())


@pytest.mark.parametrize(("name", "shape"), SMALL)
@pytest.mark.parametrize("engine", QUICK)
def test_every_engine_answers_as_eager_does(engine: str, name: str, shape: tuple[int, int, int]) -> None:
    assert_answers_alike(engine, network(name, shape), shape)


@pytest.mark.parametrize(("name", "shape"), LARGE[:2])
def test_our_path_answers_as_eager_does(name: str, shape: tuple[int, int, int]) -> None:
    assert_answers_alike("torch", network(name, shape), shape)


TORCHVISION = ("alexnet", "vgg11_bn", "googlenet", "resnet18", "resnet50", "densenet121", "mobilenet_v3_small")


@pytest.mark.slow
@pytest.mark.parametrize("engine", QUICK)
@pytest.mark.parametrize(("name", "shape"), [*LARGE, *((f"torchvision:{n}", (3, 64, 64)) for n in TORCHVISION)])
def test_more_networks(engine: str, name: str, shape: tuple[int, int, int]) -> None:
    assert_answers_alike(engine, network(name, shape), shape)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(("name", "shape"), SMALL)
def test_compiled_networks(name: str, shape: tuple[int, int, int], precision: str) -> None:
    if available("compile", "cpu") or precision not in precisions("compile", "cpu"):
        pytest.skip(
            available("compile", "cpu") or f"this processor has no {precision}: compiled networks are not tested in it"
        )
    assert_answers_alike("compile", network(name, shape), shape, precision)


@pytest.mark.parametrize("engine", ["eager", "torch", "openvino"])
def test_bf16_is_near_and_really_lower(engine: str) -> None:
    if "bf16" not in precisions(engine, "cpu"):
        pytest.skip("this processor has no bfloat16: engines are not tested in it")
    shape = (1, 32, 32)
    net = network("lenet5_relu", shape)
    assert_answers_alike(engine, net, shape, "bf16")
    x = images(4, shape)
    with open_engine(engine, net, shape, precision="bf16") as low, open_engine(engine, net, shape) as full:
        expected = net(torch.from_numpy(x)).detach().numpy()
        exact, rounded = (np.abs(e.run(x) - expected).max() / np.abs(expected).max() for e in (full, low))
    # OpenVINO takes bfloat16 by itself on processors that have it; float32 must mean float32.
    assert exact < 1e-5 < 1e-3 < rounded


def test_what_was_done_is_said() -> None:
    net = network("resnet20_cifar", (3, 32, 32))
    with open_engine("torch", net, (3, 32, 32)) as opened:
        assert opened.about == ("channels_last, batch norm folded, fused by oneDNN, memory kept between calls")
        assert (opened.name, opened.precision, opened.device) == ("torch", "fp32", "cpu")
    with open_engine("eager", net, (3, 32, 32), threads=1) as opened:
        assert (opened.about, opened.threads) == ("as it is", 1)


class Alternates(nn.Module):
    """Cannot be traced, and reaches into its layers, so that folding neighbours changes its answers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        y = self.body[0](x)
        return (self.body[1](y) + y if float(y.sum()) != 0 else y).mean((2, 3))


def test_a_tuned_network_that_answers_otherwise_is_not_used() -> None:
    net = Alternates()
    net.body[1].running_mean.fill_(2.0)
    net.eval()
    with open_engine("torch", net, (3, 8, 8)) as opened:
        assert opened.about == "channels_last, memory kept between calls"
    assert_answers_alike("torch", net, (3, 8, 8))


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(12, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.flatten(1).float() + torch.ones(12))


def test_a_network_that_is_not_of_one_precision_runs_by_autocast() -> None:
    if "bf16" not in precisions("torch", "cpu"):
        pytest.skip("this processor has no bfloat16: engines are not tested in it")
    with open_engine("eager", Mixed().eval(), (3, 2, 2), precision="bf16") as opened:
        assert opened.about == "autocast"
        assert opened.run(images(2, (3, 2, 2))).shape == (2, 2)


def test_threads_are_given_back_and_memory_is_kept_until_the_last_one_closes() -> None:
    net, before = network("lenet5_relu", (1, 32, 32)), torch.get_num_threads()
    seen: list[int] = []
    net.register_forward_hook(lambda *_: seen.append(torch.get_num_threads()))
    with open_engine("eager", net, (1, 32, 32), threads=before + 1) as opened:
        opened.run(images(1, (1, 32, 32)))
    assert set(seen) == {before + 1}
    assert torch.get_num_threads() == before
    held = _Kept.holders
    first, second = (open_engine("torch", net, (1, 32, 32)) for _ in range(2))
    assert _Kept.holders == held + 2
    first.close()
    first.close()
    assert _Kept.holders == held + 1
    second.close()
    assert _Kept.holders == held


def test_ready_places_once_and_runs_each_time() -> None:
    net = network("lenet5_relu", (1, 32, 32))
    calls: list[int] = []
    net.register_forward_hook(lambda m, given, out: calls.append(len(out)))
    with open_engine("eager", net, (1, 32, 32)) as opened:
        calls.clear()
        ready = opened.ready(images(3, (1, 32, 32)))
        assert not calls
        assert ready() is None
        ready()
    assert calls == [3, 3]


def message(kind: type[Exception], engine: str = "eager", net: nn.Module | None = None, **given: object) -> str:
    with pytest.raises(kind) as caught:
        open_engine(engine, net or nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval(), (3, 2, 2), **given)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_errors_are_one_line_each(monkeypatch: pytest.MonkeyPatch) -> None:
    assert message(UnknownName, "openvin") == "no engine named 'openvin'; did you mean openvino?"
    assert message(UsageError, device="gpu") == "no device named 'gpu'; give cpu or cuda"
    assert message(UsageError, threads=0) == "0 threads; give a whole number from 1 up"
    assert message(UsageError, "onnxruntime", precision="bf16") == (
        "engine onnxruntime has no bf16 on cpu here; it has fp32"
    )
    assert message(UsageError, net=nn.Linear(1, 1)) == (
        "Linear is in training mode, but engines only answer; call eval() first"
    )
    assert message(BadInput, net=nn.Conv2d(1, 2, 1).eval()).startswith(
        "Conv2d does not take images of 2x3x2x2: Given groups=1, weight of size [2, 1, 1, 1], expected input"
    )
    assert message(BadInput, net=nn.Conv2d(3, 2, 1).eval()) == (
        "Conv2d gives (2, 2, 2, 2) for 2 images, but engines take networks that give logits (N, classes); "
        "call eval() and wrap what gives more"
    )
    monkeypatch.setattr(module, "_no_compiler", lambda: "torch.compile needs a C++ compiler, and g++ is not installed")
    monkeypatch.setattr(module, "available", lambda e, d="cpu": module._no_compiler() if e == "compile" else "")
    assert message(UsageError, "compile") == (
        "engine compile cannot run here: torch.compile needs a C++ compiler, and g++ is not installed; "
        "take eager, torch, onnxruntime, openvino"
    )


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator")
def test_an_accelerator_that_is_not_there() -> None:
    assert message(UsageError, device="cuda") == "device 'cuda' is not there; use cpu"


def test_missing_packages_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    gone = ("openvino", "onnxruntime", "onnxscript")
    monkeypatch.setattr(module, "find_spec", lambda name: None if name in gone else find(name))
    assert available("openvino", "cpu") == "openvino and onnxscript are not installed"
    assert precisions("openvino", "cpu") == ()
    assert available("torch", "cpu") == ""
    assert message(MissingExtra, "openvino") == (
        "engine openvino needs openvino and onnxscript, which is not installed; pip install 'convatlas[openvino]'"
    )
    assert message(MissingExtra, "onnxruntime") == (
        "engine onnxruntime needs onnxruntime and onnxscript, which is not installed; pip install 'convatlas[onnx]'"
    )


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    assert available("compile", "cpu") == ("torch.compile needs a C++ compiler, and g++ or clang++ is not installed")
    monkeypatch.setenv("CXX", "icpx")
    assert available("compile", "cpu") == "torch.compile needs a C++ compiler, and icpx is not installed"


def opened_small() -> Engine:
    return open_engine("eager", nn.Sequential(nn.Flatten(), nn.Linear(12, 2)).eval(), (3, 2, 2))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (np.zeros((2, 3, 2, 2)), "float64 2x3x2x2"),
        (np.zeros((2, 3, 2, 3), np.float32), "float32 2x3x2x3"),
        (np.zeros((3, 2, 2), np.float32), "float32 3x2x2"),
        (np.zeros((0, 3, 2, 2), np.float32), "float32 0x3x2x2"),
    ],
)
def test_other_images_are_refused(given: np.ndarray, said: str) -> None:
    with opened_small() as opened:
        for use in (opened.run, opened.ready):
            with pytest.raises(BadInput) as caught:
                use(given)
            assert str(caught.value) == f"images are {said}, but the engine takes float32 Nx3x2x2; convert them"


def test_a_closed_engine_says_so() -> None:
    opened = opened_small()
    opened.close()
    with pytest.raises(RunFailed) as caught:
        opened.run(images(1, (3, 2, 2)))
    assert str(caught.value) == "this eager engine was closed and runs nothing more; open another one"


def test_every_engine_says_what_it_can() -> None:
    for engine in ENGINES:
        assert bool(available(engine, "cpu")) != bool(precisions(engine, "cpu"))
        assert "fp16" not in precisions(engine, "cpu")
