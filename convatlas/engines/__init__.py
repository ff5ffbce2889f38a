"""Ways to run a network that is trained: PyTorch as it is and as we tune it, its compiler, ONNX Runtime, OpenVINO."""

from .engine import Engine
from .folding import fold
from .onnx_file import to_onnx
from .opening import ENGINES, available, open_engine, precisions

__all__ = ["ENGINES", "Engine", "available", "fold", "open_engine", "precisions", "to_onnx"]
