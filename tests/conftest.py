"""What the tests share: the big data sets, when they are there."""

import os
from pathlib import Path

import pytest


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
