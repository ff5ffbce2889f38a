"""Random changes of training images, by the names that recipes use; each a pure function of (seed, epoch, image).

What comes after the geometry ("flip", "pad-crop", colours, distortions) works on whole batches of uint8; what replaces
the geometry ("area", "side") chooses a part of each original image, which alone is then decoded and resized. Mixing
works on finished batches with their targets and is a function of (seed, step).
"""

from .geometry import resized
from .parsing import KNOWN, Plan, parse

__all__ = ["KNOWN", "Plan", "parse", "resized"]
