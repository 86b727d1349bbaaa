"""Where a measurement comes from: machine, versions, commit, command."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

from ...decoding.plumbing.machine import package_version, processor_name

PACKAGES = ("hotloop", "torch", "numpy", "onnxruntime", "openvino", "gymnasium", "mujoco")


def measurement_header(command: str) -> dict[str, Any]:
    """Facts to store beside measured numbers, JSON-able."""
    return {
        "command": command,
        "commit": commit(),
        "date": date.today().isoformat(),
        "processor": processor_name(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "versions": {name: package_version(name) for name in PACKAGES},
    }


def commit() -> str | None:
    """Commit of the source tree, with ``+`` if files differ from it; None outside of git."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--dirty=+"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()
