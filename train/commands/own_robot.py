"""A robot file of the user's own, written by a command: what differs from its base."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ...decoding.plumbing.files import replacing, write_text
from ..config.compose import compose
from ..config.groups import is_file
from ..config.own_file import BASE, read_own_file

if TYPE_CHECKING:
    from ...real_robot.config import ControlConfig

GROUP = "robot"
FIRST = ("name", "driver", "joints", "options")
DEFAULT = Path("my_arm.yaml")


@dataclass(frozen=True)
class OwnRobot:
    """A file to be written.

    Attributes:
        path: The file.
        base: What it refines: a shipped robot's name, or another file as seen from its folder;
            empty for nothing.
    """

    path: Path
    base: str

    @classmethod
    def at(cls, output: str | None, overrides: Sequence[str]) -> OwnRobot:
        """The file that `output` names, else the one that the overrides choose.

        Raises:
            ValueError: If it has no suffix of a YAML file.
        """
        chosen = [one.partition("=")[2] for one in overrides if one.startswith(f"{GROUP}=")]
        robot = chosen[-1].strip("\"'") if chosen else ""
        path = Path(output or (robot if is_file(robot) else DEFAULT))
        if path.suffix not in (".yaml", ".yml"):
            raise ValueError(f"a robot file ends in .yaml, got {path}")
        if not is_file(robot):
            return cls(path, robot)
        if path.resolve() != Path(robot).resolve():
            return cls(path, os.path.relpath(robot, path.parent))
        return cls(path, _base(path))

    def refuse_unless_free(self, overwrite: bool) -> None:
        """Look before anything is measured.

        Raises:
            FileExistsError: If the file is there and is not to be replaced.
            PermissionError: If nothing can be written there.
            ValueError: If it is there and no robot file.
        """
        folder = next(one for one in self.path.absolute().parents if one.exists())
        if not (folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)):
            raise PermissionError(f"nothing can be written into {folder}; choose another --output")
        if not os.path.lexists(self.path):
            return
        if not overwrite:
            raise FileExistsError(
                f"{self.path} exists already; --overwrite replaces it and keeps the old one beside "
                "it, --output chooses another name"
            )
        _base(self.path)

    def differing(self, config: ControlConfig) -> dict[str, Any]:
        """What the file has to say."""
        everything: dict[str, Any] = asdict(config)
        if self.base:
            base = str(self.path.parent / self.base) if is_file(self.base) else self.base
            values = _difference(everything, asdict(_composed(base)))
        else:
            values = {GROUP: everything[GROUP]}
        robot: dict[str, Any] = values.pop(GROUP, {})
        first = {key: robot.pop(key) for key in FIRST if key in robot}
        return {**({BASE: self.base} if self.base else {}), **first, **robot, **values}

    def write(self, text: str, config: ControlConfig) -> Path | None:
        """Write the file, after reading it back; return where the earlier one is kept, if any.

        Args:
            text: Its content.
            config: What it has to mean.
        """
        kept = None
        with replacing(self.path) as partial:
            partial.write_text(text, encoding="utf-8")
            found = _composed(str(partial))
            assert found.robot == config.robot, (found.robot, config.robot)
            if self.path.exists():
                kept = self._unused()
                write_text(kept, self.path.read_text(encoding="utf-8"))
        return kept

    def _unused(self) -> Path:
        names = (f"{self.path.stem}.old-{n}{self.path.suffix}" for n in count(1))
        return next(path for path in map(self.path.with_name, names) if not os.path.lexists(path))


def _composed(robot: str) -> ControlConfig:
    from ...real_robot.config import ControlConfig

    return compose("control", [f"{GROUP}={robot}"], ControlConfig)


def _base(path: Path) -> str:
    """The base that a robot file names, empty if none; ValueError if it is no robot file."""
    return read_own_file(path, GROUP)[1] or ""


def _difference(values: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """What `values` say that `base` does not, mappings key by key."""
    result: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), Mapping):
            if inner := _difference(cast("Mapping[str, Any]", value), base[key]):
                result[key] = inner
        elif key not in base or value != base[key]:
            result[key] = value
    return result
