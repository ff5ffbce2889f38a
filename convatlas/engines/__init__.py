"""Ways to run a network that is trained: PyTorch as it is and as we tune it, its compiler, ONNX Runtime, OpenVINO."""
