"""What a classifier costs on this machine: forward time by batch size."""

from .forward import measure, record, summary

__all__ = ["measure", "record", "summary"]
