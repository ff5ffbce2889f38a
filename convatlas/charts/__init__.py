"""The lecture's charts from measured runs, as Vega-Lite, after Canziani, Paszke and Culurciello (2017).

"An Analysis of Deep Neural Network Models for Practical Applications", arXiv 1605.07678. One file a family: accuracy,
batches, fitted lines, training. All share one look.
"""

from ..compare import Comparison
from .accuracy import accuracy_against_macs, accuracy_against_time, accuracy_bars, accuracy_per_parameter
from .batches import energy_against_batch, memory_against_batch, time_against_batch
from .chart import FORMATS, Chart
from .fitted import macs_against_time, memory_against_parameters
from .look import COLOURS, HEIGHT, HIGHLIGHT, ROOM, SHAPES, WIDTH, finished, shown_name, ticks, tooltip
from .training import training_curves

__all__ = [
    "COLOURS",
    "FORMATS",
    "HEIGHT",
    "HIGHLIGHT",
    "ROOM",
    "SHAPES",
    "WIDTH",
    "Chart",
    "accuracy_against_macs",
    "accuracy_against_time",
    "accuracy_bars",
    "accuracy_per_parameter",
    "charts",
    "energy_against_batch",
    "finished",
    "macs_against_time",
    "memory_against_batch",
    "memory_against_parameters",
    "shown_name",
    "ticks",
    "time_against_batch",
    "tooltip",
    "training_curves",
]


def charts(comparison: Comparison, language: str = "en") -> list[Chart]:
    """Every chart that the comparison has the figures for. Raises UsageError for a language that there is not."""
    drawn = (
        accuracy_bars(comparison, language),
        accuracy_against_macs(comparison, language),
        accuracy_against_time(comparison, language),
        time_against_batch(comparison, language),
        memory_against_batch(comparison, language),
        energy_against_batch(comparison, language),
        macs_against_time(comparison, language, batch=1),
        macs_against_time(comparison, language, batch=16),
        memory_against_parameters(comparison, language),
        accuracy_per_parameter(comparison, language),
        training_curves(comparison, language),
    )
    return [chart for chart in drawn if chart is not None]
