"""Shipping a trained classifier: the bundle, exported files that are proven equal to it, and predictions from it."""

from .bundle import replay
from .exporting import export
from .predicting import Prediction, predict, summary

__all__ = ["Prediction", "export", "predict", "replay", "summary"]
