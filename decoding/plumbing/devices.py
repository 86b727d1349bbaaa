"""Names of devices, read without PyTorch."""

from __future__ import annotations

import re

CPU = "cpu"


def check_device(name: str) -> None:
    """Raise ValueError unless `name` is ``"cpu"``, ``"cuda"``, or ``"cuda:1"`` and the like."""
    if name != CPU and not re.fullmatch(r"cuda(:\d+)?", name):
        raise ValueError(f"device must be cpu, cuda or cuda:N, for example cuda:0, got {name!r}")
