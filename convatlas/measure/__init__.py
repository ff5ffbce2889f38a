"""What classifiers cost on this machine: forward time, peak memory and energy by batch size and engine."""

from .forward import BATCHES, LeftOut, Measured, measure, record
from .printed import summaries, summary

__all__ = ["BATCHES", "LeftOut", "Measured", "measure", "record", "summaries", "summary"]
