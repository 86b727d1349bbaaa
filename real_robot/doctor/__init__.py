"""Is this machine punctual enough, and is the robot what its file says? Nothing is changed."""

from .findings import Finding
from .machine import check_jitter, check_packages
from .robot import check_robot

__all__ = ["Finding", "check_jitter", "check_packages", "check_robot"]
