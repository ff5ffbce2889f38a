"""ConvAtlas: from a folder of labelled photos to a chosen, trained, verified, exportable classifier."""

__version__ = "0.1.0"
