"""OpenVINO on the CPU, from an ONNX file in memory, tuned for one request at a time."""

import io
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from ..errors import RunFailed
from .onnx_file import INPUT

# On a CPU with bfloat16 units OpenVINO computes in it unless it is told otherwise.
PRECISIONS = {"fp32": "f32", "bf16": "bf16"}


class WithOpenVino:
    """A network compiled for one batch size after the other."""

    def __init__(self, content: bytes, shape: tuple[int, int, int], precision: str, threads: int):
        import openvino

        self.core, self.shape = openvino.Core(), shape
        self.hints = {
            "PERFORMANCE_HINT": "LATENCY",  # one pass with all threads; THROUGHPUT divides them among requests
            "INFERENCE_PRECISION_HINT": PRECISIONS[precision],
            "EXECUTION_MODE_HINT": "ACCURACY" if precision == "fp32" else "PERFORMANCE",
            "INFERENCE_NUM_THREADS": threads,
        }
        self.about = f"ONNX file, latency hint, inference precision {PRECISIONS[precision]}"
        try:
            self.model = self.core.read_model(io.BytesIO(content))
            self.compiled = self.core.compile_model(self.model, "CPU", self.hints)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]
            raise RunFailed(f"OpenVINO cannot run this network: {reason}; take another engine") from error

    def place(self, images: np.ndarray) -> Callable[[], np.ndarray]:
        request = self.compiled.create_infer_request()
        given = np.array(images, order="C")
        return partial(self._infer, request, {INPUT: given})

    def fetch(self, answer: np.ndarray) -> np.ndarray:
        return answer.astype(np.float32)

    def close(self) -> None:
        del self.compiled, self.model

    def _infer(self, request: Any, given: dict[str, np.ndarray]) -> np.ndarray:
        return request.infer(given, share_inputs=True)[self.compiled.output(0)]
