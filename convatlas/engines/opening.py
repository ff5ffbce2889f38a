"""Which engines there are, what each can do here, and how a network gets into one."""

import os
import platform
import shutil
import sysconfig
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from ..errors import MissingExtra, UnknownName, UsageError
from .engine import Backend, Engine
from .onnx_file import PACKAGES, to_onnx
from .with_onnxruntime import CUDA, WithOnnxRuntime
from .with_openvino import WithOpenVino
from .with_torch import WithTorch

ENGINES = ("eager", "torch", "compile", "onnxruntime", "openvino")
NEEDS = {"onnxruntime": ("onnxruntime", *PACKAGES), "openvino": ("openvino", *PACKAGES)}
COMPILERS = ("g++", "clang++")  # which torch.compile looks for, besides what CXX names


def available(engine: str, device: str = "cpu") -> str:
    """Why an engine cannot run here, as a half sentence; empty where it can. Raises UnknownName and UsageError."""
    kind = _kind(engine, device)
    missing = _missing(engine)
    if missing:
        return f"{' and '.join(missing)} {'is' if len(missing) == 1 else 'are'} not installed"
    if kind != "cpu" and engine == "openvino":
        return f"ConvAtlas runs OpenVINO on the CPU only, not on {device}"
    if engine == "onnxruntime" and kind != "cpu":
        import onnxruntime

        if kind != "cuda" or CUDA not in onnxruntime.get_available_providers():
            return f"this build of ONNX Runtime has no {kind}"
    if engine == "compile" and kind == "cpu":
        return _no_compiler()
    if engine == "compile" and find_spec("triton") is None:
        return "torch.compile needs triton on an accelerator, which is not installed"
    return ""


def precisions(engine: str, device: str = "cpu") -> tuple[str, ...]:
    """Those of fp32, bf16 and fp16 in which an engine really computes on a device; none where it cannot run.

    On a CPU bf16 counts where the processor has instructions for it. Raises UnknownName and UsageError.
    """
    kind = _kind(engine, device)
    if available(engine, device):
        return ()
    if engine == "onnxruntime":
        return ("fp32",)  # the file holds float32
    if engine == "openvino":
        import openvino

        can = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        return ("fp32", "bf16") if "BF16" in can else ("fp32",)
    if kind == "cpu":
        return ("fp32", "bf16") if _cpu_has_bf16() else ("fp32",)
    if kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False):
        return ("fp32", "bf16", "fp16")
    return ("fp32", "fp16")


def open_engine(
    engine: str,
    net: nn.Module,
    shape: tuple[int, int, int],
    *,
    precision: str = "fp32",
    device: str = "cpu",
    threads: int | None = None,
) -> Engine:
    """Makes a network ready to run. `net` is in evaluation mode, gives logits (N, classes), and is not changed.

    `shape` is (C,H,W). Without `threads` they are as many as PyTorch would use now. `torch` and `compile` hold what
    they made of the network against the network itself, and do less where the logits differ by more than 1e-4 of the
    largest (0.1 in bf16, 0.02 in fp16); `about` of the engine says what was done. Raises MissingExtra, UsageError where
    the engine, the device or the precision is not there, BadInput where the network does not take `shape`, and
    RunFailed where the engine cannot run it.
    """
    kind = _kind(engine, device)
    if missing := _missing(engine):
        raise MissingExtra(" and ".join(missing), "openvino" if engine == "openvino" else "onnx", f"engine {engine}")
    if reason := available(engine, device):
        raise UsageError(f"engine {engine} cannot run here: {reason}; take {_others(engine, device)}")
    runs = precisions(engine, device)
    if precision not in runs:
        raise UsageError(f"engine {engine} has no {precision} on {device} here; it has {', '.join(runs)}")
    if threads is not None and threads < 1:
        raise UsageError(f"{threads} threads; give a whole number from 1 up")
    if net.training:
        raise UsageError(f"{type(net).__name__} is in training mode, but engines only answer; call eval() first")
    used = threads or torch.get_num_threads()
    backend: Backend
    if engine == "onnxruntime":
        backend = WithOnnxRuntime(to_onnx(net, shape, {}), device, used)
    elif engine == "openvino":
        backend = WithOpenVino(to_onnx(net, shape, {}), shape, precision, used)
    else:
        backend = WithTorch(engine, net, shape, precision, device, used)
    return Engine(engine, backend, shape, precision=precision, device=device, threads=used if kind == "cpu" else 0)


def _kind(engine: str, device: str) -> str:
    """The device's type, after both names are checked."""
    if engine not in ENGINES:
        raise UnknownName("engine", engine, ENGINES)
    try:
        kind = torch.device(device).type
    except RuntimeError:
        raise UsageError(f"no device named {device!r}; give cpu or cuda") from None
    here = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if kind != "cpu" and (here is None or here.type != kind):
        raise UsageError(f"device {device!r} is not there; {f'use {here.type} or cpu' if here else 'use cpu'}")
    return kind


def _missing(engine: str) -> list[str]:
    return [p for p in NEEDS.get(engine, ()) if find_spec(p) is None]


def _others(engine: str, device: str) -> str:
    return ", ".join(e for e in ENGINES if e != engine and not available(e, device))


def _no_compiler() -> str:
    named = os.environ.get("CXX")
    if not any(shutil.which(c) for c in ([named] if named else COMPILERS)):
        return f"torch.compile needs a C++ compiler, and {named or ' or '.join(COMPILERS)} is not installed"
    if not (Path(sysconfig.get_paths()["include"]) / "Python.h").is_file():
        return "torch.compile needs Python's header files (python3-dev), which are not installed"
    return ""


@cache
def _cpu_has_bf16() -> bool:
    """Instructions for bfloat16: AVX-512 BF16 or AMX on x86, those of Armv8.6 as oneDNN finds them."""
    if platform.machine().lower() in ("x86_64", "amd64"):
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
