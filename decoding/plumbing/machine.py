"""What a measurement depends on: the processor, and versions of packages."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path


def processor_name() -> str:
    """Model of the processor, as far as the system tells."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def package_version(package: str) -> str | None:
    """Version of an installed distribution, None if there is none."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
