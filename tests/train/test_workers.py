"""The number of loader processes changes no bit of a training, whatever the images lie in (R3)."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convatlas.data import open_data, packed, shards

WORKERS = (0, 1, 2, 4)


@pytest.fixture(scope="module")
def stored(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The photos, one of them damaged, in each form that a data set may have."""

    def form(kind: str) -> Path:
        if kind == "photos":
            return photos
        out = tmp_path_factory.mktemp(kind) / kind
        if kind == "packed":
            packed.pack(open_data(photos), out, 17)
        else:
            shards.write(open_data(photos), out, size=8_000)
            assert len(list(out.rglob("*.tar"))) > 3
        return out

    return form


@pytest.mark.parametrize(
    ("kind", "recipe"),
    [
        ("photos", "hard"),
        ("photos", "colours"),
        pytest.param("photos", "random", marks=pytest.mark.slow),
        pytest.param("packed", "plain", marks=pytest.mark.slow),
        ("shards", "colours"),
    ],
)
def test_any_number_of_workers_ends_with_the_same_bits(
    kind: str, recipe: str, stored: Any, trainings: Any, tmp_path: Path, sums_of: Callable[[Path], dict[str, str]]
) -> None:
    if recipe == "random":
        pytest.importorskip("torchvision", reason="randaugment needs torchvision, which is not installed")
    data = stored(kind)
    found = []
    for workers in WORKERS:
        run = tmp_path / f"run-{workers}"
        trainings.start(run, data, workers=workers, recipe=recipe, save_seconds=1000.0)
        assert trainings.wait() == 0, trainings.stderr(run).read_text()
        found.append(sums_of(run))
    assert found[1:] == found[:1] * (len(WORKERS) - 1)
    assert '"reason"' in found[0]["log"], "the damaged photo took no part"
