"""Measured runs side by side, and the best of them under a budget."""

from .choice import Candidate, Choice, GivenUp, Limits, TooClose, choose
from .runs import Comparison, Entry, Epoch, Missing, Source, compare

__all__ = [
    "Candidate",
    "Choice",
    "Comparison",
    "Entry",
    "Epoch",
    "GivenUp",
    "Limits",
    "Missing",
    "Source",
    "TooClose",
    "choose",
    "compare",
]
