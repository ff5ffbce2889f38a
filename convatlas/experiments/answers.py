"""What the experiments answer with. Needs no torch."""

from dataclasses import dataclass, field
from typing import Literal

from ..paper import Published, Recipe
from ..result import Machine, wilson

Family = Literal["plain", "resnet"]


@dataclass(frozen=True)
class Errors:
    """Wrong answers among images."""

    wrong: int
    images: int

    @property
    def share(self) -> float:
        return self.wrong / self.images

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's 95 % interval, as shares of one."""
        return wilson(self.wrong, self.images)

    def against(self, other: "Errors") -> Literal["worse", "better", "equal"]:
        """How these errors compare with others; equal where the 95 % intervals meet."""
        (low, high), (other_low, other_high) = self.interval, other.interval
        return "worse" if low > other_high else "better" if high < other_low else "equal"


@dataclass(frozen=True)
class Point:
    """Errors of one epoch."""

    epoch: int
    training: Errors  # while the weights were changing
    held_out: Errors | None  # of the validation images at its end


@dataclass(frozen=True)
class Norms:
    """Gradient norms of one epoch, of the layers with weights from the input on: root of the mean square over steps."""

    epoch: int
    values: tuple[float, ...]

    def early(self) -> float:
        """Geometric mean over the third of the layers that is nearest to the input."""
        return _geometric(self.values[: _third(self.values)])

    def late(self) -> float:
        """Geometric mean over the third that is nearest to the output."""
        return _geometric(self.values[-_third(self.values) :])


def _third(values: tuple[float, ...]) -> int:
    return max(1, len(values) // 3)


def _geometric(values: tuple[float, ...]) -> float:
    from statistics import geometric_mean

    return geometric_mean(values) if all(v > 0 for v in values) else 0.0


@dataclass(frozen=True)
class Trained:
    """One network of the degradation experiment, trained."""

    network: str
    family: Family
    depth: int
    params: int
    run: str  # its run folder
    recipe: Recipe
    curve: tuple[Point, ...]
    training: Errors  # of all training images, evaluated at the end
    tested: Errors
    split: str  # that `tested` is of
    norms: tuple[Norms, ...]  # by epoch; none where the run did not write them
    epochs: float
    seconds: float
    when: str

    @property
    def name(self) -> str:
        """As the paper writes it: "plain-20", "ResNet-20"."""
        return f"{'plain' if self.family == 'plain' else 'ResNet'}-{self.depth}"


@dataclass(frozen=True)
class Degradation:
    """Plain networks and residual ones of several depths, on the same images by the same recipe."""

    data: str
    source: str
    images: dict[str, int]
    seed: int
    paper: Recipe  # as the paper has it
    trained: tuple[Trained, ...]  # plain ones by depth, then residual ones by depth
    printed: tuple[Published, ...]
    machine: Machine
    versions: dict[str, str]
    command: str
    answer: tuple[str, str] = ("", "")

    def pair(self, family: str) -> tuple[Trained, Trained]:
        """The shallowest and the deepest of a family."""
        own = sorted((t for t in self.trained if t.family == family), key=lambda t: t.depth)
        return own[0], own[-1]


@dataclass(frozen=True)
class Kill:
    """One SIGKILL, and where it met the training."""

    epoch: int  # finished epochs in the log at that moment
    seconds: float  # after that start of the process
    saving: bool  # a half-written checkpoint was left behind


@dataclass(frozen=True)
class Sum:
    """One thing that must be equal, by its sha256."""

    what: str
    undisturbed: str
    killed: str

    @property
    def equal(self) -> bool:
        return self.undisturbed == self.killed


@dataclass(frozen=True)
class Resumed:
    """A training that was killed again and again beside one that was left alone."""

    network: str
    data: str
    epochs: int
    seed: int
    kills: tuple[Kill, ...]
    sums: tuple[Sum, ...]
    seconds: float
    commands: tuple[str, ...]

    @property
    def equal(self) -> bool:
        return all(s.equal for s in self.sums)


@dataclass(frozen=True)
class Step:
    """One update of the range test."""

    rate: float
    loss: float
    smoothed: float


@dataclass(frozen=True)
class Rates:
    """A learning-rate range test."""

    network: str
    data: str
    batch: int
    optimiser: str
    seed: int
    steps: tuple[Step, ...]
    proposed: float
    lowest: float  # rate with the lowest smoothed loss
    steepest: float  # rate at which the smoothed loss falls fastest over the logarithm of the rate
    recipe_rate: float
    stopped: str  # why it ended where it did
    rule: str
    machine: Machine
    versions: dict[str, str]
    command: str


@dataclass(frozen=True)
class Trial:
    """One batch size that was tried for real."""

    batch: int
    fits: bool
    peak_bytes: int | None  # None where the process did not live to tell
    reason: str = ""


@dataclass(frozen=True)
class LargestBatch:
    """The largest batch that trains within the memory."""

    network: str
    input: tuple[int, int, int]
    classes: int
    device: str
    precision: str
    optimiser: str
    budget_bytes: int
    budget_from: str
    predicted: int
    predicted_bytes: int  # at the predicted batch; 0 where none fits
    batch: int  # the largest that was tried and fitted; 0: none
    refused: int | None  # the smallest that was tried and did not fit; None: all did
    capped: bool  # the training images are no more than `batch`
    method: str
    trials: tuple[Trial, ...] = field(default=())
    machine: Machine | None = None
    versions: dict[str, str] = field(default_factory=dict)
