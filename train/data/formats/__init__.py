"""Formats of datasets, one module each, and the front door that finds out which a path is of."""

from .format import Format, Option
from .registry import FORMATS, find_dataset, open_dataset, read_episodes

__all__ = ["FORMATS", "Format", "Option", "find_dataset", "open_dataset", "read_episodes"]
