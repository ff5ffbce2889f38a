"""A linear probe: how far a linear classifier gets on a layer's features.

Multinomial logistic regression, as Donahue et al. 2014 (DeCAF, arXiv:1310.1531) put linear classifiers on AlexNet's
fully connected layers.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ... import units
from ...errors import BadData, UsageError
from ...result import Accuracy
from .extracting import Features, Rows

PARTS = ("train", "validation", "test")  # that a probe is fitted, chosen and counted on
STRENGTHS = (1.0, 1e-1, 1e-2, 1e-3, 1e-4)  # of the L2 penalty, from strong to weak
STEPS, CLOSE = 1000, 1e-6  # of L-BFGS at most; the largest part of the gradient at which it ends


@dataclass(frozen=True)
class Tried:
    """A strength of the penalty, and how many of the validation images were right with it."""

    strength: float
    correct: int
    images: int


@dataclass(frozen=True)
class Probe:
    """What a linear classifier on features got right on the test split."""

    layer: str
    network: str
    source: str
    dimensions: int
    data: str
    classes: int
    train_images: int
    strength: float
    tried: tuple[Tried, ...]
    accuracy: Accuracy

    def as_dict(self) -> dict[str, Any]:
        fields = ("correct", "images", "top1", "top5_correct", "top5", "interval", "unreadable")
        own = {name: value for name, value in asdict(self).items() if name != "accuracy"}
        return own | {f: getattr(self.accuracy, f) for f in fields}

    def as_text(self) -> str:
        a, (low, high) = self.accuracy, self.accuracy.interval
        chosen = next(t for t in self.tried if t.strength == self.strength)
        return "\n".join(
            [
                f"linear probe on {self.layer} of {self.network} ({self.source}), {self.data}, test split",
                f"  top-1  {units.of(a.correct, a.images)}, 95 % interval {100 * low:.1f} to {units.percent(high)}",
                f"  {units.exact(self.dimensions)} features, fitted on {units.exact(self.train_images)} images; L2 "
                f"strength {self.strength:g}, the best of {len(self.tried)} on validation images: "
                f"{units.of(chosen.correct, chosen.images)}",
            ]
        )


def probe(found: Features) -> Probe:
    """A linear classifier fitted on the training images' features and counted on the test images'.

    Features are standardised by the training images. Of `STRENGTHS` the one with most validation images right is
    taken, of equals the strongest. Nothing is drawn at random. Raises UsageError without one of the three splits,
    BadData for training images of a single class.
    """
    for name in PARTS:
        if name not in found.rows:
            raise UsageError(
                f"a probe needs train, validation and test images; {found.data.source} has {', '.join(found.rows)}"
            )
    train, validation, test = (found.rows[name] for name in PARTS)
    present, labels = train.labels.unique(return_inverse=True)
    if len(present) < 2:
        raise BadData(f"the training images of {found.data.source} are of one class; a probe tells two or more apart")
    mean, scale = _scale(train.features)
    here = (train.features.double() - mean) / scale
    tried: list[tuple[Tried, Tensor]] = []
    fitted: Tensor | None = None
    for strength in STRENGTHS:
        fitted = fit(here, labels, strength, fitted)
        ranks = _ranks(fitted, present, validation, mean, scale)
        tried.append((Tried(strength, int((ranks == 0).sum()), len(ranks)), fitted))
    best, chosen = max(tried, key=lambda one: one[0].correct)
    ranks = _ranks(chosen, present, test, mean, scale)
    accuracy = Accuracy(int((ranks == 0).sum()), int((ranks < 5).sum()), len(ranks), len(test.bad))
    return Probe(
        found.layer,
        found.network,
        found.source,
        found.dimensions,
        found.data.name,
        len(found.data.classes),
        len(train.labels),
        best.strength,
        tuple(t for t, _ in tried),
        accuracy,
    )


def fit(features: Tensor, labels: Tensor, strength: float, begin: Tensor | None = None) -> Tensor:
    """Logistic regression of all classes at once. (N,d) float64, (N,) -> (d+1,classes), biases in the last row.

    The minimum of the mean cross entropy plus strength / 2 times the weights' squared norm, biases free: that of
    scikit-learn's LogisticRegression with C = 1 / (strength N). L-BFGS from `begin`, or from zero.
    """
    classes = int(labels.max()) + 1
    first = torch.zeros(features.shape[1] + 1, classes, dtype=torch.float64) if begin is None else begin.clone()
    theta = first.requires_grad_()
    optimiser = torch.optim.LBFGS(
        [theta], max_iter=STEPS, tolerance_grad=CLOSE, tolerance_change=0.0, line_search_fn="strong_wolfe"
    )

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = nn.functional.cross_entropy(features @ theta[:-1] + theta[-1], labels)
        value = value + strength / 2 * theta[:-1].square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimiser.step(loss)
    return theta.detach()


def _scale(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each feature; one that never changes is left as it is."""
    mean = features.double().mean(dim=0)
    deviation = (features.double() - mean).square().mean(dim=0).sqrt()
    return mean, torch.where(deviation > 1e-12 * (1 + mean.abs()), deviation, 1.0)


def _ranks(fitted: Tensor, present: Tensor, rows: Rows, mean: Tensor, scale: Tensor) -> np.ndarray:
    """How many classes come before the right one for each image, int64 (N,); all for a class that was not trained."""
    logits = ((rows.features.double() - mean) / scale) @ fitted[:-1] + fitted[-1]
    answers = present[logits.argsort(dim=1, descending=True, stable=True)]
    hits = answers == rows.labels[:, None]
    first = hits.int().argmax(dim=1)
    return torch.where(hits.any(dim=1), first, len(present) + 5).numpy()
