"""Measured runs side by side, whether they differ, and the best of them under a budget."""

from .candidates import Candidate, Limits
from .choice import Choice, GivenUp, TooClose, choose
from .comparison import Comparison
from .difference import ClassDifference, Difference, difference
from .entries import Curve, Entry, Epoch, Mark, Missing, Source, interval, machine
from .gate import Allowed, Check, Gate, gate
from .runs import compare

__all__ = [
    "Allowed",
    "Candidate",
    "Check",
    "Choice",
    "ClassDifference",
    "Comparison",
    "Curve",
    "Difference",
    "Entry",
    "Epoch",
    "Gate",
    "GivenUp",
    "Limits",
    "Mark",
    "Missing",
    "Source",
    "TooClose",
    "choose",
    "compare",
    "difference",
    "gate",
    "interval",
    "machine",
]
