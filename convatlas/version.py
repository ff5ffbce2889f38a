"""The version; here, and not in the package itself, so that every rank may ask for it."""

__version__ = "0.1.0"
