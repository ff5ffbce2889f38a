"""The lecture's tables and charts, computed and measured anew, as one page."""

from .page import lecture

__all__ = ["lecture"]
