"""Print what the real d4rl package says, as JSON; run by `test_compat_d4rl.py` in its own venv."""

import json
import os
import sys

# Without MuJoCo 2.1 mujoco_py raises something that d4rl does not catch; a missing package it does.
sys.modules["mujoco_py"] = None
os.environ["D4RL_SUPPRESS_IMPORT_ERROR"] = "1"

import d4rl  # noqa: E402
import h5py  # noqa: E402


def references() -> dict[str, list[float]]:
    """Score of a return of 0 and of 1000 for each dataset id."""
    ids = d4rl.infos.REF_MIN_SCORE
    return {name: [d4rl.get_normalized_score(name, value) for value in (0, 1000)] for name in ids}


def lengths(path: str) -> dict[str, list]:
    """Lengths and returns of the episodes that d4rl cuts a file into."""
    with h5py.File(path, "r") as file:
        columns = ("observations", "actions", "rewards", "terminals", "timeouts")
        dataset = {name: file[name][()] for name in columns}
    episodes = list(d4rl.sequence_dataset(None, dataset))
    transitions = d4rl.qlearning_dataset(None, dataset)
    return {
        "lengths": [len(episode["rewards"]) for episode in episodes],
        "returns": [float(episode["rewards"].sum()) for episode in episodes],
        "num_terminals": int(transitions["terminals"].sum()),
    }


COMMANDS = {"references": references, "lengths": lengths}
print(json.dumps(COMMANDS[sys.argv[1]](*sys.argv[2:])))
