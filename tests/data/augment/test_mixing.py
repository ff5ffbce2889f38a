"""MixUp and CutMix against torchvision's, given the same numbers."""

from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from convatlas.data.augment.mixing import CutMix, Mixing, MixUp, _share


def batch(n: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randn(n, 3, 12, 20, generator=torch.Generator().manual_seed(0))
    return images, torch.nn.functional.one_hot(torch.arange(n) % 4, 4).float()


def test_mixup_is_torchvisions() -> None:
    images, targets = batch()
    for step in range(5):
        ours = Mixing((MixUp(0.4),)).apply(images, targets, 3, step)
        params = {"lam": _share(0.4, 3, step), "labels": targets, "batch_size": 6}
        theirs = v2.MixUp(alpha=0.4, num_classes=4)
        assert torch.allclose(ours[0], theirs.transform(images, params))
        assert torch.allclose(ours[1], theirs._mixup_label(targets, lam=params["lam"]))


def test_cutmix_is_torchvisions(monkeypatch: pytest.MonkeyPatch) -> None:
    from convatlas.data import draws

    images, targets = batch()
    theirs = v2.CutMix(alpha=1.0, num_classes=4)
    areas = set()
    for step in range(40):
        share = _share(1.0, 3, step)
        places = [int(draws.uniform_at(3, step, draws.MIXING, i) * n) for i, n in ((1, 20), (2, 12))]
        given = iter(places)  # torchvision draws the share, then across, then down
        with monkeypatch.context() as patch:
            patch.setattr(theirs, "_dist", _Fixed(share))
            patch.setattr(torch, "randint", lambda *_, given=given, **__: torch.tensor([next(given)]))
            params: dict[str, Any] = theirs.make_params([images])
        params |= {"labels": targets, "batch_size": 6}
        ours = Mixing((CutMix(1.0),)).apply(images, targets, 3, step)
        assert torch.equal(ours[0], theirs.transform(images, params))
        assert torch.allclose(ours[1], theirs.transform(targets, params), atol=1e-6)
        assert ours[1].sum(dim=1) == pytest.approx(torch.ones(6))
        areas.add(params["lam_adjusted"])
    assert len(areas) > 20


class _Fixed:
    def __init__(self, value: float):
        self.value = value

    def sample(self, _: object) -> torch.Tensor:
        return torch.tensor(self.value, dtype=torch.float64)


@pytest.mark.parametrize("alpha", [0.2, 1.0])
def test_shares_have_the_beta_distribution(alpha: float) -> None:
    n = 3000
    drawn = np.array([_share(alpha, 0, step) for step in range(n)])
    deviation = np.sqrt(1 / (4 * (2 * alpha + 1)))
    assert drawn.mean() == pytest.approx(0.5, abs=5 * deviation / np.sqrt(n))
    assert drawn.std() == pytest.approx(deviation, rel=0.05)


def test_it_follows_from_seed_and_step_and_leaves_its_input_alone() -> None:
    images, targets = batch()
    before = images.clone(), targets.clone()
    state = torch.get_rng_state()
    mixing = Mixing((MixUp(0.4), CutMix(1.0)))
    one, same, other, seed = (mixing.apply(images, targets, *at)[0] for at in ((1, 2), (1, 2), (1, 3), (2, 2)))
    assert torch.equal(one, same) and not torch.equal(one, other) and not torch.equal(one, seed)
    assert torch.equal(images, before[0]) and torch.equal(targets, before[1])
    assert torch.equal(torch.get_rng_state(), state)


def test_each_way_has_its_turn() -> None:
    images, targets = batch()
    mixing = Mixing((MixUp(1.0), CutMix(1.0)))
    n = 200
    cut = 0
    for step in range(n):
        mixed = mixing.apply(images, targets, 0, step)[0]
        cut += int(torch.equal(mixed, CutMix(1.0).apply(images, targets, 0, step)[0]))
    assert abs(cut - n / 2) < 5 * np.sqrt(n) / 2
