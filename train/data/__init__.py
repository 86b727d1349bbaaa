"""Datasets: readers and writers of episodes, and the training windows cut from them."""

from .episodes import Episodes
from .formats.registry import read_episodes
from .source import ReadOptions
from .write import WriteOptions, write_episodes

__all__ = ["Episodes", "ReadOptions", "WriteOptions", "read_episodes", "write_episodes"]
