"""D4RL's dataset ids and the file names that D4RL itself gives them.

The files are not downloaded: they are looked for in ``$HOTLOOP_DATASETS`` or, by default, where the
``d4rl`` package keeps them, ``~/.d4rl/datasets``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_SERVER = "http://rail.eecs.berkeley.edu/datasets/offline_rl"
_LEVELS = ("random", "medium", "expert", "medium-replay", "medium-expert", "full-replay")
_ANTMAZES = {
    "umaze": ("u-maze", False, False),
    "umaze-diverse": ("u-maze", True, True),
    "medium-play": ("big-maze", True, False),
    "medium-diverse": ("big-maze", True, True),
    "large-play": ("hardest-maze", True, False),
    "large-diverse": ("hardest-maze", True, True),
}
_KITCHENS = {
    "complete": "mini_kitchen_microwave_kettle_light_slider-v0",
    "partial": "kitchen_microwave_kettle_light_slider-v0",
    "mixed": "kitchen_microwave_kettle_bottomburner_light-v0",
}
_HANDS_V0 = {"human": "v0_demos_clipped", "cloned": "demos-v0-bc-combined"} | {
    "expert": "v0_expert_clipped"
}


def _locomotion() -> Iterator[tuple[str, str]]:
    for robot in ("halfcheetah", "hopper", "walker2d", "ant"):
        for level in _LEVELS:
            name = level.replace("-", "_")
            for version in (1, 2):
                file = f"{robot}_{name}-v{version}.hdf5"
                yield f"{robot}-{level}-v{version}", f"gym_mujoco_v{version}/{file}"
            if level != "full-replay":
                # Version 0 says "mixed" for replay, and shortens one robot's name.
                mixed = f"{'walker' if robot == 'walker2d' else robot}_mixed"
                file = mixed if level == "medium-replay" else f"{robot}_{name}"
                yield f"{robot}-{level}-v0", f"gym_mujoco/{file}.hdf5"


def _mazes() -> Iterator[tuple[str, str]]:
    for dense in ("", "-dense"):
        reward = dense or "-sparse"
        yield f"maze2d-open{dense}-v0", f"maze2d/maze2d-open{reward}.hdf5"
        for size in ("umaze", "medium", "large"):
            yield f"maze2d-{size}{dense}-v1", f"maze2d/maze2d-{size}{reward}-v1.hdf5"
    for name, (maze, starts, goals) in _ANTMAZES.items():
        file = f"Ant_maze_{maze}_noisy_multistart_{starts}_multigoal_{goals}_sparse"
        yield f"antmaze-{name}-v0", f"ant_maze_new/{file}.hdf5"
        yield f"antmaze-{name}-v2", f"ant_maze_v2/{file}_fixed.hdf5"


def _manipulation() -> Iterator[tuple[str, str]]:
    for name, file in _KITCHENS.items():
        yield f"kitchen-{name}-v0", f"kitchen/{file}.hdf5"
    for task in ("pen", "hammer", "door", "relocate"):
        for source, file in _HANDS_V0.items():
            yield f"{task}-{source}-v0", f"hand_dapg/{task}-{file}.hdf5"
            yield f"{task}-{source}-v1", f"hand_dapg_v1/{task}-{source}-v1.hdf5"


# Id to folder and file name on D4RL's server.
D4RL_FILES = {**dict(_locomotion()), **dict(_mazes()), **dict(_manipulation())}


def datasets_folder() -> Path:
    """``$HOTLOOP_DATASETS``, by default ``~/.d4rl/datasets``, the folder of the d4rl package."""
    return Path(os.environ.get("HOTLOOP_DATASETS") or Path.home() / ".d4rl" / "datasets")


def d4rl_path(dataset_id: str) -> Path:
    """Where the file of a D4RL id should be; raise FileNotFoundError if it is not there."""
    path = datasets_folder() / Path(D4RL_FILES[dataset_id]).name
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: the file of {dataset_id!r} is not there; nothing is downloaded by itself: "
            f"fetch {_SERVER}/{D4RL_FILES[dataset_id]} into that folder, or set HOTLOOP_DATASETS "
            "to the folder that holds it"
        )
    return path
