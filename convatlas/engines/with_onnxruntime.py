"""ONNX Runtime, from a file in memory."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..errors import RunFailed
from .onnx_file import INPUT, OUTPUT

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def session_of(content: bytes, threads: int = 0, device: str = "cpu") -> Any:
    """ONNX Runtime's session of a file's content; 0 threads are as many as there are cores.

    Raises RunFailed where it cannot load the file.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.intra_op_num_threads = threads
    # Its threads otherwise turn in a loop for a while after each call, at the cost of whoever runs next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    providers = [CPU] if device == "cpu" else [(CUDA, {"device_id": _index(device)}), CPU]
    try:
        return onnxruntime.InferenceSession(content, options, providers=providers)
    except Exception as error:  # its own classes, which have no common base of their own
        reason = str(error).strip().splitlines()[0]
        raise RunFailed(f"ONNX Runtime cannot run the file: {reason}; take another engine") from error


class WithOnnxRuntime:
    """A network's ONNX file in a session."""

    about = "ONNX file, all graph optimisations"

    def __init__(self, content: bytes, device: str, threads: int):
        self.device = device
        self.session = session_of(content, threads, device)
        if device != "cpu" and CUDA not in self.session.get_providers():
            raise RunFailed(f"ONNX Runtime could not start on {device}; its CUDA libraries do not fit, use device cpu")

    def place(self, images: np.ndarray) -> Callable[[], np.ndarray]:
        if self.device == "cpu":
            given = {INPUT: np.array(images, order="C")}
            return lambda: self.session.run([OUTPUT], given)[0]
        return partial(self._bound, self._binding(images))

    def fetch(self, answer: np.ndarray) -> np.ndarray:
        return answer

    def close(self) -> None:
        del self.session

    def _binding(self, images: np.ndarray) -> Any:
        import onnxruntime

        binding = self.session.io_binding()
        value = onnxruntime.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(images), "cuda", _index(self.device))
        binding.bind_ortvalue_input(INPUT, value)
        binding.bind_output(OUTPUT, "cpu")  # logits are few, and copying them out ends the pass
        return binding

    def _bound(self, binding: Any) -> np.ndarray:
        self.session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        return binding.copy_outputs_to_cpu()[0]


def _index(device: str) -> int:
    return int(device.partition(":")[2] or 0)
