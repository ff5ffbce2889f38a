"""Shards: data sets in tar files of about 1 GB, as WebDataset has them; from a folder or an http(s) address."""

from .cache import Cache
from .manifest import Manifest
from .reading import Found, is_shards, read
from .stored import Shards
from .writing import write

__all__ = ["Cache", "Found", "Manifest", "Shards", "is_shards", "read", "write"]
