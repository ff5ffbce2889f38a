"""A network as an ONNX file."""

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec

import torch
from torch import nn

from ..errors import MissingExtra, RunFailed

PACKAGES = ("onnx", "onnxscript")  # what torch.onnx needs
INPUT, OUTPUT = "images", "logits"


@contextmanager
def _silence() -> Iterator[None]:
    """Keeps the exporter's talk about its own inner steps, and about torchvision that nobody needs, off stderr."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def to_onnx(net: nn.Module, shape: tuple[int, int, int], facts: Mapping[str, str]) -> bytes:
    """One ONNX file: `images` (float32, n x C x H x W, normalised) to `logits`; n is free.

    `shape` is (C,H,W). `facts` become the file's metadata; `network` among them is the name that errors say. Raises
    RunFailed where torch.onnx cannot, and MissingExtra without its packages.
    """
    missing = [p for p in PACKAGES if find_spec(p) is None]
    if missing:
        raise MissingExtra(" and ".join(missing), "onnx", "export to ONNX")
    some = next(net.parameters(), torch.zeros(0))
    batch = torch.zeros(2, *shape, device=some.device)  # two, because one would be taken for a fixed size
    try:
        with _silence(), torch.no_grad():
            program = torch.onnx.export(
                net,
                (batch,),
                dynamo=True,
                dynamic_shapes=({0: torch.export.Dim("batch")},),
                input_names=[INPUT],
                output_names=[OUTPUT],
                external_data=False,
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error).strip().splitlines()[0]
        name = facts.get("network", type(net).__name__)
        raise RunFailed(f"{name} cannot be exported to ONNX: {reason}; export it without --to onnx") from error
    assert program is not None
    model = program.model_proto
    # Each node carries stack traces with paths of the machine that exported it; they do not belong in a file to ship.
    for part in (model.graph, *model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output):
        del part.metadata_props[:]
        part.doc_string = ""
    del model.metadata_props[:]
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=value)
    return model.SerializeToString()
