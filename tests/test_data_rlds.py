"""RLDS datasets: real robot data, and files made here to be damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rlds_example import CAMERA, STATE, declare, episode, framed, write

from hotloop.decoding.instruction import INSTRUCTION_KEY, decode_instruction
from hotloop.policies.vla import TinyHost
from hotloop.train.config.policies import VlaPolicyConfig
from hotloop.train.data.formats.registry import open_dataset, read_episodes
from hotloop.train.data.source import ReadOptions
from hotloop.train.data.tfrecord import (
    find_records,
    masked_checksum,
    parse_example,
    read_record,
)
from hotloop.train.families.vla import prepare_vla


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    declare(tmp_path)
    write(tmp_path, "train", episode(0), episode(1, length=2))
    write(tmp_path, "val", episode(2))
    return tmp_path


def test_episodes_pictures_and_words_come_out_as_they_went_in(folder: Path) -> None:
    found = read_episodes(folder, everything=True)
    assert found.episode_ends.tolist() == [3, 5, 8]
    assert found.terminated.tolist() == [False, True, False]
    assert found.actions[:, 0].tolist() == [0, 1, 2, 10, 11, 20, 21, 22]
    assert found.actions[:, 1].tolist() == [0.5, 1.5, 2.5, 10.5, 11.5, 20.5, 21.5, 22.5]
    images = found.observations[CAMERA]
    assert (images.shape, images.dtype) == ((8, 4, 6, 3), np.uint8)
    assert images[:, 0, 0, 0].tolist() == [0, 1, 2, 10, 11, 20, 21, 22]
    assert found.observations[STATE][:, 2].tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    texts = [decode_instruction(row) for row in found.observations[INSTRUCTION_KEY][[0, 3, 5]]]
    assert texts == ["task 0", "task 1", "task 2"]


def test_rows_of_any_range_are_those_of_the_whole(folder: Path) -> None:
    with open_dataset(folder) as file:
        array = file.open_array("steps/action")
        whole = array[0:8]
        for start in range(9):
            for stop in range(start, 9):
                np.testing.assert_array_equal(array[start:stop], whole[start:stop])


def test_a_split_can_be_chosen(folder: Path) -> None:
    found = read_episodes(folder, options=ReadOptions(subset="val"))
    assert found.actions[:, 0].tolist() == [20, 21, 22]
    with pytest.raises(ValueError, match=r"no shard \*-test.tfrecord\*; the folder has toy-train"):
        read_episodes(folder, options=ReadOptions(subset="test"))


def test_a_checksum_is_the_published_one() -> None:
    """CRC-32C of the digits 1 to 9 is 0xE3069283 in every description of it."""
    rotated = (0xE3069283 >> 15 | 0xE3069283 << 17) & 0xFFFFFFFF
    assert masked_checksum(b"123456789") == (rotated + 0xA282EAD8) % 2**32


@pytest.mark.parametrize("position", [0, 9, 40, -2])
def test_a_changed_byte_anywhere_is_found(folder: Path, position: int) -> None:
    path = write(folder, "train", episode(0))
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"toy-train.*(wrong checksum|is incomplete)"):
        read_episodes(folder)


@pytest.mark.parametrize("kept", [5, 100, -1])
def test_a_file_that_just_ends_is_found(folder: Path, kept: int) -> None:
    path = write(folder, "train", episode(0))
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ValueError, match="record 0 at byte 0 is incomplete"):
        read_episodes(folder)


def test_something_else_in_a_record_is_found(folder: Path) -> None:
    path = folder / "toy-train.tfrecord-00000-of-00001"
    path.write_bytes(framed(b"\xff\xff no message"))
    with pytest.raises(ValueError, match=r"not a tf\.train\.Example"):
        read_episodes(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps/action": [1.0] * 5}, "'steps/action' has 5 values, its 3 steps need 6"),
        ({"steps/is_first": None}, "has no steps/is_first"),
        ({"steps/observation/front": None}, "'steps/observation/front' has 0 values"),
        ({"steps/observation/front": [b"no picture"] * 3}, "cannot be decoded"),
    ],
)
def test_episodes_that_are_not_as_declared_are_found(
    folder: Path, change: dict[str, Any], message: str
) -> None:
    features = {key: value for key, value in (episode(0) | change).items() if value is not None}
    write(folder, "train", features)
    with pytest.raises(ValueError, match=message):
        read_episodes(folder, everything=True)


def test_empty_shards_are_named(folder: Path) -> None:
    for path in folder.glob("*.tfrecord*"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="the shards hold no episode"):
        read_episodes(folder)


def test_a_message_of_the_real_data_has_the_features_that_are_declared(shared_data: Path) -> None:
    (path,) = (shared_data / "octo_bridge_debug").rglob("*.tfrecord*")
    records = list(find_records(path))
    assert len(records) == 25
    found = parse_example(read_record(records[0]))
    assert len(found["steps/action"]) == 70
    assert found["steps/observation/image_0"][0][:2] == b"\xff\xd8", "a JPEG"


def test_real_robot_data_trains_a_policy(shared_data: Path) -> None:
    path = shared_data / "octo_bridge_debug" / "bridge_dataset" / "1.0.0"
    camera = "observation.images.image_0"
    keys = {
        camera: "steps/observation/image_0",
        "observation.state": "steps/observation/state",
        INSTRUCTION_KEY: "steps/language_instruction",
        "action": "steps/action",
    }
    found = read_episodes(path, keys)
    assert (found.num_episodes, len(found.actions)) == (25, 250)
    assert found.observations[camera].std() > 20
    instructions = {decode_instruction(row) for row in found.observations[INSTRUCTION_KEY]}
    assert len(instructions) == 4
    assert all(len(text) > 10 for text in instructions)
    host = TinyHost(patch_size=16, merge=1, vision_width=16, vision_layers=1, width=32, layers=1)
    config = VlaPolicyConfig("vla", host, num_actions=2, unscaled_actions=(6,), image_shift=2)
    training = prepare_vla(config, "", found, seed=0)
    objective, windows = training.objective, training.samples
    import torch

    batch = windows.gather(torch.arange(0, 250, 50))
    loss = objective(objective.draw(batch, torch.Generator().manual_seed(0)))
    assert loss.item() == pytest.approx(np.log(256), abs=0.3), "as good as guessing, to begin with"
