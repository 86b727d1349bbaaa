"""Numbers of the robomimic benchmark: which episodes are paired, and what the tables say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from benchmarks.robomimic_table import difference, format_tables, summaries


def scored(task: str, kind: str, seed: int, calls: int | None, solved: list[int]) -> dict[str, Any]:
    rate = 100 * sum(solved) / len(solved)
    key = {"part": "scores", "task": task, "kind": kind, "seed": seed, "calls_per_step": calls}
    return {**key, "pc_success": rate, "scores": solved}


def test_episodes_are_paired_within_a_training_seed() -> None:
    first = [scored("can", "dp", 1, 10, [1, 1, 0, 0]), scored("can", "dp", 2, 10, [1, 1, 1, 1])]
    second = [scored("can", "sdp", 2, 1, [1, 0, 1, 1]), scored("can", "sdp", 1, 1, [1, 1, 1, 0])]
    gain = difference(first, second)
    assert gain is not None
    assert (gain["mean"], gain["better"], gain["worse"], gain["n"]) == (0, 1, 1, 8)
    assert gain["ci95"][0] < 0 < gain["ci95"][1]


@pytest.mark.parametrize("solved", [[1, 0, 1, 1, 1], [1, 0]], ids=["longer", "shorter"])
def test_what_has_no_partner_is_not_compared(solved: list[int]) -> None:
    first = [scored("can", "dp", 1, 10, [1, 1, 0, 0])]
    assert difference(first, [scored("can", "sdp", 1, 1, solved)]) is None
    assert difference(first, [scored("can", "sdp", 2, 1, [1, 1, 0, 0])]) is None


def test_the_table_says_success_interval_and_difference_to_ten_calls() -> None:
    solved = np.ones(50, int)
    missed = np.where(np.arange(50) < 5, 0, 1)
    rows = [
        scored("can", "dp", 42, 10, solved.tolist()),
        scored("can", "student", 42, 1, missed.tolist()),
        scored("can-abs", "dp", 42, 10, missed.tolist()),
    ]
    table = format_tables([*rows, *summaries(rows)])
    assert "| policy | can | can-abs |" in table
    assert "| Diffusion Policy, 10 calls | 100 % (93 to 100, 1 x 50) | 90 % (79 to 96" in table
    assert "1 call** | 90 % (79 to 96, 1 x 50), -10 (" in table
    assert "| absolute minus delta | can-abs |" in table
