"""Forward and training time of a network that was never run here, from its account and a calibration of this machine.

A forward pass is taken to cost a sum over its operations: multiply-adds by kind of operation, bytes of weights that
each call or each image reads, bytes that pass through the other operations, and a fixed cost of each operation. The
price of each is fitted to measured networks by least squares that allow no negative price (Lawson and Hanson 1974,
chapter 23), in relative terms, so that a network of 1 ms counts as much as one of 1 s.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, log, prod
from pathlib import Path
from statistics import geometric_mean
from typing import TYPE_CHECKING

import numpy as np

from .. import catalogue, files, units
from ..errors import BadData, SaveFailed
from ..layout import Cell, Column, text
from ..record import from_json, to_json
from ..result import Machine, Timing, now
from ..table import Row, Table

if TYPE_CHECKING:
    from ..measure.calibration import Measured, Step

FILE = "calibration.json"
FLOAT = 4  # bytes of an element in fp32, which the prediction is about
THIN = 16  # input channels below which a convolution leaves part of a vector register of 16 floats empty
SMALL = 49  # positions of a 7x7 map, from which on a product of matrices has few rows
FEATURES = (
    "MACs of KxK convolutions",
    "MACs of 1x1 convolutions",
    "MACs of 1x1 convolutions on small maps",
    "MACs of grouped convolutions",
    "MACs of convolutions of few channels",
    "MACs of linear layers",
    "bytes of convolutions' weights",
    "bytes of convolutions' weights for each image",
    "bytes of linear layers' weights",
    "bytes through pooling windows",
    "bytes through local response normalisation",
    "bytes through other operations",
    "convolutions",
    "other operations",
)
WEIGHTED = ("conv2d", "linear")
PLAIN, NORMALISED = "without batch norm", "with batch norm"


def features(table: Table, batch: int = 1) -> dict[str, float]:
    """What the time of one forward pass of `batch` images is a weighted sum of, by the names of FEATURES.

    Batch norm right after a convolution or a linear layer costs nothing, as it is folded into the weights. A ReLU or an
    addition that an engine does while it writes a convolution's output is counted all the same: it stands for the
    bytes of that output, and networks are predicted better with it than without.
    """
    found = dict.fromkeys(FEATURES, 0.0)
    images = batch / (table.input[0][0] if table.input else 1)
    before: Row | None = None
    for row in table.rows:
        if not (before and before.op in WEIGHTED and row.op == "batch_norm" and row.output == before.output):
            found["convolutions" if row.op == "conv2d" else "other operations"] += 1
            for name, amount in _costs(row, images):
                found[name] += amount
        before = row
    return found


def _costs(row: Row, images: float) -> Iterable[tuple[str, float]]:
    """The features that one operation adds to, with the amounts."""
    out = FLOAT * prod(row.output) * images
    through = FLOAT * sum(map(prod, row.inputs)) * images + out
    if row.op == "conv2d":
        yield _convolution(row), row.macs * images
        yield "bytes of convolutions' weights", FLOAT * row.params
        yield "bytes of convolutions' weights for each image", FLOAT * row.params * images
    elif row.macs:
        yield "MACs of linear layers", row.macs * images
        yield "bytes of linear layers' weights", FLOAT * row.params
    elif row.op in ("max_pool2d", "avg_pool2d"):
        yield "bytes through pooling windows", out * _window(row)
    elif row.op == "local_response_norm":
        yield "bytes through local response normalisation", through
    else:
        yield "bytes through other operations", through


def _convolution(row: Row) -> str:
    groups = row.setting.get("groups") or 1
    channels = row.inputs[0][1] if len(row.inputs[0]) > 1 else 1
    if isinstance(groups, int) and groups > 1:
        return "MACs of grouped convolutions"
    if channels < THIN:
        return "MACs of convolutions of few channels"
    if _window(row) > 1:
        return "MACs of KxK convolutions"
    small = prod(row.output[2:]) <= SMALL
    return "MACs of 1x1 convolutions on small maps" if small else "MACs of 1x1 convolutions"


def _window(row: Row) -> int:
    kernel = row.setting.get("kernel")
    return prod(int(k) for k in kernel if k) if isinstance(kernel, tuple) else int(kernel or 1)


# ---- Fitting ---------------------------------------------------------------------------------------------------------


def nnls(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The x >= 0 that makes |a x - b| smallest, float64 (n,), for `a` (m,n) and `b` (m,).

    Lawson and Hanson's active sets ("Solving Least Squares Problems", 1974, chapter 23): variables leave zero one by
    one, the steepest first, and go back when the solution of the free ones would be negative.
    """
    x = np.zeros(a.shape[1])
    free = np.zeros(a.shape[1], bool)
    least = 10 * np.finfo(float).eps * np.abs(a.T @ b).max(initial=0) * max(a.shape)
    for _ in range(3 * a.shape[1]):
        slope = a.T @ (b - a @ x)
        slope[free] = -np.inf
        if free.all() or slope.max() <= least:
            break
        free[slope.argmax()] = True
        while True:
            wanted = np.zeros_like(x)
            wanted[free] = np.linalg.lstsq(a[:, free], b, rcond=None)[0]
            if (wanted[free] > 0).all():
                break
            falling = np.flatnonzero(free & (wanted <= 0))
            shares = x[falling] / (x[falling] - wanted[falling])
            x += shares.min() * (wanted - x)
            free[falling[shares == shares.min()]] = False
            x[~free] = 0
        x = wanted
    return x


@dataclass(frozen=True)
class Point:
    """A network that was run, and what is predicted for it."""

    network: str
    input: tuple[int, ...]
    batch: int
    measured_ms: float
    low_ms: float  # first quartile
    high_ms: float  # third quartile
    predicted_ms: float  # by all networks
    unseen_ms: float  # by prices that were fitted without this network

    @property
    def error(self) -> float:
        """|log| of predicted over measured time, for a network that the fit has not seen."""
        return abs(log(self.unseen_ms / self.measured_ms))


@dataclass(frozen=True)
class Ratio:
    """How many times longer forward and backward pass of a training step take than the forward pass alone."""

    kind: str
    times: float  # geometric mean
    low: float
    high: float
    networks: tuple[str, ...]


@dataclass(frozen=True)
class Calibration:
    machine: Machine
    versions: dict[str, str]
    engine: str
    when: str  # UTC, ISO 8601
    seconds: float  # that measuring took
    processor: float  # share of it in which the process had a processor
    prices: dict[str, float]  # milliseconds for one of each of FEATURES
    points: tuple[Point, ...]
    ratios: tuple[Ratio, ...]
    update_ms: float  # for each million of parameters, of one update of the weights
    error_median: float  # of |log| of predicted over measured, each network predicted without itself
    error_90: float  # its 90 % quantile

    def as_text(self, most: int | None = None) -> str:
        """Predicted against measured time of each network, or of `most` evenly from fast to slow, and the error."""
        columns = [Column("network"), Column("input"), *(Column(n, True) for n in ("batch", "measured", "predicted"))]
        shown = self.points
        if most is not None and most < len(shown):
            ranked = sorted(shown, key=lambda p: p.measured_ms)
            shown = tuple(ranked[i] for i in np.linspace(0, len(ranked) - 1, most).round().astype(int))
        rows: list[list[Cell]] = [
            [p.network, units.shape(p.input), p.batch, *map(units.milliseconds, (p.measured_ms, p.unseen_ms)), _off(p)]
            for p in shown
        ]
        left = len(self.points) - len(shown)
        more = f"\n… and {left} more, which --json lists." if left else ""
        return f"{text([*columns, Column('off', True)], rows)}{more}\n\n{self.summary()}"

    def summary(self) -> str:
        """What was measured on which machine, and how well it predicts."""
        count = len({p.network for p in self.points})
        networks = f"{count} network{'s' * (count != 1)}"
        m = self.machine
        busy = (
            f" The machine was busy: this process had a processor {100 * self.processor:.0f} % of the time, so that "
            "all times are too long; calibrate again when it is quiet (--recalibrate)."
            if self.processor < BUSY
            else ""
        )
        ratios = "; ".join(
            f"{r.kind} {r.times:.2g} times ({r.low:.2g} to {r.high:.2g}; {', '.join(r.networks)})" for r in self.ratios
        )
        return (
            f"Calibrated on {m.processor}, {m.threads} {'thread' if m.threads == 1 else 'threads'}, torch "
            f"{self.versions.get('torch', '?')}, {self.when}: {len(self.points)} forward times of {networks}. "
            f"Each predicted from the others, half are off by at most {_percent(self.error_median)} and nine of ten by "
            f"at most {_percent(self.error_90)}. Measured too: forward and backward pass against the forward pass "
            f"alone, {ratios}; {units.milliseconds(self.update_ms)} to update a million parameters.{busy}"
        )

    def ratio(self, normalised: bool) -> Ratio:
        kind = NORMALISED if normalised else PLAIN
        return next((r for r in self.ratios if r.kind == kind), self.ratios[0])


@dataclass(frozen=True)
class Prediction:
    """Milliseconds; the range is the one that nine of ten of the calibration's networks keep."""

    ms: float
    low_ms: float
    high_ms: float


BUSY = 0.9  # share of the time with a processor below which others were at work


def fit(measured: "Measured") -> Calibration:
    """Prices of all features, and the error of each network's prediction by prices that were fitted without it."""
    forwards = measured.forwards
    times = np.array([f.timing.median_ms for f in forwards])
    amounts = np.array([list(features(f.table, f.timing.batch).values()) for f in forwards])
    networks = np.array([f.table.network for f in forwards])
    prices = _prices(amounts, times)
    unseen = np.zeros_like(times)
    for name in sorted(set(networks)):
        own = networks == name
        unseen[own] = amounts[own] @ _prices(amounts[~own], times[~own])
    unseen = np.maximum(unseen, times / LOST)
    points = [
        Point(f.table.network, f.table.input[0][1:], f.timing.batch, *_times(f.timing), float(p), float(u))
        for f, p, u in zip(forwards, amounts @ prices, unseen, strict=True)
    ]
    middle, most = np.quantile([p.error for p in points], (0.5, 0.9))
    return Calibration(
        machine=measured.machine,
        versions=measured.versions,
        engine=measured.engine,
        when=now(),
        seconds=measured.seconds,
        processor=measured.processor,
        prices=dict(zip(FEATURES, prices.tolist(), strict=True)),
        points=tuple(points),
        ratios=tuple(_ratios(measured.steps)),
        update_ms=1e6 * sum(s.update_ms for s in measured.steps) / sum(s.params for s in measured.steps),
        error_median=float(middle),
        error_90=float(most),
    )


LOST = 100  # a prediction is never taken to be further below the measured time, whose logarithm must exist


def _times(timing: Timing) -> tuple[float, float, float]:
    return timing.median_ms, timing.low_ms, timing.high_ms


def _prices(amounts: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Least squares of the relative errors; features are brought to one size first, or rounding would lose some."""
    relative = amounts / times[:, None]
    largest = relative.max(axis=0)
    largest[largest == 0] = 1
    return nnls(relative / largest, np.ones(len(times))) / largest


def _ratios(steps: Sequence["Step"]) -> Iterable[Ratio]:
    for kind in (PLAIN, NORMALISED):
        own = [s for s in steps if s.normalised == (kind == NORMALISED)]
        found = [s.gradients_ms / s.forward_ms for s in own]
        if found:
            yield Ratio(kind, geometric_mean(found), min(found), max(found), tuple(s.network for s in own))


# ---- Predicting ------------------------------------------------------------------------------------------------------


def predict(network: Table | str, calibration: Calibration, batch: int = 1) -> Prediction:
    """The time of a forward pass of `batch` images, of an account or of a catalogue network at its own input.

    Raises UnknownName.
    """
    table = catalogue.table(network) if isinstance(network, str) else network
    ms = sum(calibration.prices[name] * amount for name, amount in features(table, batch).items())
    return _within(ms, calibration.error_90)


def predict_step(network: Table | str, calibration: Calibration, batch: int) -> Prediction:
    """The time of one update of the weights by `batch` images: the forward time by its kind's ratio, and the update.

    The range takes in that of the forward time and that of the kind's networks. Raises UnknownName.
    """
    table = catalogue.table(network) if isinstance(network, str) else network
    ratio = calibration.ratio(any(r.op == "batch_norm" for r in table.rows))
    ms = predict(table, calibration, batch).ms * ratio.times + calibration.update_ms * table.totals.params / 1e6
    return _within(ms, calibration.error_90 + log(max(ratio.high / ratio.times, ratio.times / ratio.low)))


def _within(ms: float, error: float) -> Prediction:
    return Prediction(ms, ms / exp(error), ms * exp(error))


# ---- Keeping ---------------------------------------------------------------------------------------------------------


def save(calibration: Calibration, file: Path) -> None:
    """Replaces the file in one step, and makes its folder. Raises SaveFailed."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaveFailed(files.save_message(file, error)) from error
    files.write(file, to_json(calibration, indent=1) + "\n")


def read(file: Path) -> Calibration | None:
    """The calibration that is kept there; None without a file. Raises BadData for a file that is none."""
    try:
        return from_json(Calibration, file.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise BadData(f"{file} cannot be read as a calibration: {error}; --recalibrate makes it anew") from None


def differs(calibration: Calibration, machine: Machine, torch: str) -> str:
    """In what this machine is not the calibrated one, in words; "" where it is, and the calibration can be used."""
    if set(calibration.prices) != set(FEATURES):
        return "prices of other features, by another version of ConvAtlas"
    pairs = (
        ("processor", calibration.machine.processor, machine.processor),
        ("cores", calibration.machine.cores, machine.cores),
        ("threads", calibration.machine.threads, machine.threads),
        ("torch", calibration.versions.get("torch", "?"), torch),
    )
    return ", ".join(f"{what} {there}, here {here}" for what, there, here in pairs if there != here)


def _off(p: Point) -> str:
    return f"{100 * (p.unseen_ms / p.measured_ms - 1):+.0f} %"


def _percent(error: float) -> str:
    return f"{100 * (exp(error) - 1):.0f} %"
