"""Checkpoints of older formats: they load, and say the same in the words of today."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hotloop.policies.checkpoint import CONFIG_FILE, INCLUDED, WEIGHTS_FILE, load_checkpoint
from hotloop.policies.migrations import FORMAT_VERSION, MIGRATIONS, migrated

FORMAT_1 = sorted((Path(__file__).parent / "checkpoints_format_1").glob("*.json"))


@pytest.mark.parametrize("path", FORMAT_1, ids=lambda path: path.stem)
def test_a_checkpoint_of_format_1_still_loads(tmp_path: Path, path: Path) -> None:
    """Configurations as 0.1 wrote them, with the weights of the included checkpoints."""
    (tmp_path / WEIGHTS_FILE).write_bytes((INCLUDED / path.stem / WEIGHTS_FILE).read_bytes())
    (tmp_path / CONFIG_FILE).write_bytes(path.read_bytes())
    old, stored = load_checkpoint(tmp_path), load_checkpoint(path.stem)
    assert (old.kind, old.action_spec) == (stored.kind, stored.action_spec)
    assert (old.sampling, old.model.config) == (stored.sampling, stored.model.config)
    assert old.provenance == stored.provenance


def test_the_migration_from_format_1_renames_and_drops_what_meant_nothing() -> None:
    old = json.loads((FORMAT_1[0].parent / "pusht-sdp.json").read_text())
    old["sampling"].update(calls_per_step=0, start_calls=0)
    assert {"prefix_guidance", "start_key"} <= set(old["sampling"])
    new = migrated(old)
    assert new["sampling"] == {
        "num_execute": 4,
        "calls_per_step": None,
        "update": "ddim",
        "start": "denoise",
        "start_calls": None,
        "start_key": "",
    }
    assert "level_embedding" not in new["model"]["network"]
    assert (old["format_version"], new["format_version"]) == (1, 2)
    planner = json.loads((FORMAT_1[0].parent / "hopper-decision-diffuser.json").read_text())
    assert planner["sampling"]["refine_steps"] == migrated(planner)["sampling"]["calls_per_step"]
    assert "refine_steps" not in migrated(planner)["sampling"]
    drafted = {**planner, "sampling": {"refine_steps": 0}}
    assert migrated(drafted)["sampling"] == {"calls_per_step": 0}, "of planners, 0 is the draft"


def test_a_migration_leads_from_every_format_to_the_next() -> None:
    assert sorted(MIGRATIONS) == list(range(1, FORMAT_VERSION))


@pytest.mark.parametrize("folder", sorted(INCLUDED.iterdir()), ids=lambda folder: folder.name)
def test_included_checkpoints_are_of_the_present_format(folder: Path) -> None:
    assert json.loads((folder / CONFIG_FILE).read_text())["format_version"] == FORMAT_VERSION
