"""What the tests share: the big data sets, when they are there."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from torch import nn


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of MNIST, Fashion-MNIST, clothing photos, damaged images and checkpoints that CONVATLAS_DATA names."""
    folder = os.environ.get("CONVATLAS_DATA")
    if not folder:
        pytest.skip("CONVATLAS_DATA is not set: the tests on MNIST, photos, damaged images and checkpoints do not run")
    path = Path(folder)
    if not path.is_dir():
        pytest.fail(f"CONVATLAS_DATA names {path}, which is no folder")
    return path


@pytest.fixture(scope="session")
def steady() -> "Callable[[nn.Module], nn.Module]":
    """steady(net): the network with every branch taking part in training, where chance drops some."""

    def switch(net: "nn.Module") -> "nn.Module":
        for module in net.modules():
            for gate, value in (("drop_path", 0.0), ("survival", 1.0)):
                if hasattr(module, gate):
                    setattr(module, gate, value)
        return net

    return switch
