"""Formats of datasets, one file each, and the front door that finds out which a path is of."""

from .registry import find_dataset, open_dataset, read_episodes

__all__ = ["find_dataset", "open_dataset", "read_episodes"]
