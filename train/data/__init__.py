"""Datasets: readers and writers of episodes, and the training windows cut from them."""

from .episodes import Episodes
from .formats import read_episodes

__all__ = ["Episodes", "read_episodes"]
