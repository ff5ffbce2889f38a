"""Data sets, decoding, preprocessing and checks; `loader` and `augment` beside them need torch, these do not."""

from .checking import Check, SplitCheck, check
from .decoding import BadFile, decode
from .moments import statistics
from .preprocess import Preprocess
from .sets import Data, Split, open_data

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
