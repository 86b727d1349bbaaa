"""Whether robosuite is of the release that a dataset was recorded with."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Any


def check_robosuite(facts: Mapping[str, Any]) -> None:
    """Refuse to train on a file of another robosuite release than the installed one.

    Controllers and observations changed between minor releases; policies trained across that border
    succeed never, without any error.

    Args:
        facts: Metadata of the episodes; what is not from robosuite passes.

    Raises:
        ValueError: If the versions differ in major or minor number and `accept_robosuite` does not
            name the file's version.
    """
    env_args = facts.get("env_args")
    if not isinstance(env_args, Mapping) or not (version := env_args.get("env_version")):
        return
    # Only robosuite has the number 1; the key is absent in old files.
    if env_args.get("type", 1) != 1 or facts.get("accept_robosuite") == version:
        return
    try:
        installed = metadata.version("robosuite")
    except metadata.PackageNotFoundError:
        return
    if str(version).split(".")[:2] != installed.split(".")[:2]:
        raise ValueError(
            f"{facts.get('source', 'the dataset')} was recorded with robosuite {version}, but "
            f"{installed} is installed, in which the same actions do something else; install "
            f"robosuite=={version}, or if `hotloop data replay` succeeds on the file, accept it "
            f"in training with task.options.accept_robosuite={version}"
        )
