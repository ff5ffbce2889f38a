"""Data sets, decoding, preprocessing and checks; `loader` and `augment` beside them need torch, these do not."""

from .checking import Check, SplitCheck, check
from .decoding import BadFile, decode
from .moments import statistics
from .opening import open_data
from .preprocess import Preprocess
from .sets import Data, Split

__all__ = [
    "BadFile",
    "Check",
    "Data",
    "Preprocess",
    "Split",
    "SplitCheck",
    "check",
    "decode",
    "open_data",
    "statistics",
]
