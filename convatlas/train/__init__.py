"""Training by a paper's recipe, exact to the bit after a kill; and evaluation, image by image."""

from .evaluating.evaluation import evaluate, summary
from .run import Epoch, RunConfig, read_config, read_log
from .training import Options, train

__all__ = ["Epoch", "Options", "RunConfig", "evaluate", "read_config", "read_log", "summary", "train"]
