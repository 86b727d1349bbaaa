"""Which pictures a training reads, where their bytes lie, and what is refused about them."""

from __future__ import annotations

import io
import logging
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from example_episodes import LENGTHS, make_episodes
from PIL import Image

from hotloop.decoding import ActionSpec
from hotloop.envs.task import Task
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.policies.diffusion.config import ModelConfig
from hotloop.train import compose_training, train
from hotloop.train.cli import main
from hotloop.train.data import Episodes, write_episodes
from hotloop.train.data.cameras import read_for_policy
from hotloop.train.data.windows import Windows
from hotloop.train.families.diffusion import make_windows

TOP, WRIST, STATE = "observation.images.top", "observation.wrist", "observation.state"
SPEC = ActionSpec(("x", "y"), (-1, -1), (1, 1), 0.1)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOTLOOP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "datasets"


def two_cameras() -> Episodes:
    episodes = make_episodes(images=True, final=False, infos=False)
    wrist = np.random.default_rng(1).integers(0, 256, (sum(LENGTHS), 8, 8, 3), dtype=np.uint8)
    state = {STATE: episodes.observations[STATE], TOP: episodes.observations[TOP]}
    return replace(episodes, observations={**state, WRIST: wrist})


def task(**shapes: tuple[int, ...]) -> Task:
    observed = {f"observation.{name}".replace("__", "."): s for name, s in shapes.items()}
    return Task("reach", SPEC, observed, 10, "success", make=lambda: pytest.fail("it was started"))


def read(path: Path, cameras=None, task: Task | None = None, keys=None) -> Episodes:
    return read_for_policy(str(path), keys, {}, task=task, cameras=cameras)


SEES_BOTH = task(state=(4,), images__top=(10, 12, 3), wrist=(8, 8, 3))
SEES_TOP = task(state=(4,), images__top=(10, 12, 3))
BLIND = task(state=(4,))


@pytest.mark.parametrize(
    ("layout", "cameras", "seen", "expected"),
    [
        ("robomimic", None, None, [TOP, WRIST]),
        ("lerobot", None, SEES_BOTH, [TOP, WRIST]),
        ("zarr", None, SEES_TOP, [TOP]),
        ("robomimic", None, BLIND, []),
        ("lerobot", (WRIST,), None, [WRIST]),
        ("robomimic", (WRIST,), SEES_BOTH, [WRIST]),
        ("robomimic", (), None, []),
        ("robomimic", (), SEES_BOTH, []),
    ],
)
def test_pictures_are_those_of_data_task_and_policy_and_the_others_are_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, layout, cameras, seen, expected
) -> None:
    name = {"robomimic": "a.hdf5", "zarr": "a.zarr", "lerobot": "a"}[layout]
    path = write_episodes(tmp_path / name, two_cameras(), layout)
    with caplog.at_level(logging.WARNING):
        found = read(path, cameras, seen)
    assert sorted(found.observations) == sorted([STATE, *expected])
    for key in expected:
        assert found.observations[key].dtype == np.uint8
        if layout != "lerobot":  # a video is not the same bytes
            np.testing.assert_array_equal(found.observations[key], two_cameras().observations[key])
    left_out = {key.removeprefix("observation.") for key in {TOP, WRIST} - set(expected)}
    told = " ".join(record.getMessage() for record in caplog.records)
    assert len(caplog.records) == min(len(left_out), 1)
    assert all(name in told for name in left_out)


@pytest.mark.parametrize(("cameras", "seen"), [((), None), (None, BLIND)])
def test_named_columns_are_pictures_only_if_they_are_chosen(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, cameras, seen
) -> None:
    path = write_episodes(tmp_path / "a.zarr", two_cameras())
    keys = {"action": "action", STATE: "state", "observation.front": "images.top"}
    assert set(read(path, None, None, keys).observations) == {STATE, "observation.front"}
    with caplog.at_level(logging.WARNING):
        caplog.clear()
        assert set(read(path, cameras, seen, keys).observations) == {STATE}
    assert "images.top" in caplog.text


def grey(array: np.ndarray) -> np.ndarray:
    return array[..., :1]


def with_alpha(array: np.ndarray) -> np.ndarray:
    return np.concatenate([array, array[..., :1]], axis=-1)


@pytest.mark.parametrize(
    ("change", "cameras", "seen", "message"),
    [
        (grey, None, None, "'{0}' must hold pictures of bytes .* found uint8 of shape (8, 8, 1)"),
        (with_alpha, None, None, "'{0}' must hold pictures .* found uint8 of shape (8, 8, 4)"),
        (None, (STATE,), None, "'{1}' must hold pictures .* found float32 of shape (4,)"),
        (None, ("observation.front",), None, "names 'observation.front', but the dataset's"),
        (None, (WRIST,), SEES_TOP, "names '{0}', but the pictures that the task observes are {2}"),
        (None, None, task(front=(8, 8, 3)), "no pictures observation.front, which the task"),
        (None, None, task(wrist=(3, 8, 8)), "task 'reach' declares '{0}' with the shape (3, 8, 8)"),
        (None, None, task(wrist=(96, 96, 3)), "'{0}' are 8 x 8 x 3, but those of 'reach' 96 x 96"),
        (np.float32, None, None, ""),
        (lambda a: a / np.float32(255), None, None, "pixels must be whole numbers from 0 to 255"),
        (lambda a: np.moveaxis(a[:, :, :8], -1, 1), None, None, ""),
    ],
    ids=[
        "grey",
        "rgba",
        "vector",
        "unknown",
        "unseen",
        "absent",
        "first-task",
        "size",
        "floats",
        "fractions",
        "first",
    ],
)
def test_pictures_of_another_form_are_refused_before_any_is_decoded(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable | None,
    cameras,
    seen,
    message: str,
) -> None:
    episodes = two_cameras()
    pictures = episodes.observations[WRIST]
    path = tmp_path / "a.npz"
    arrays: dict[str, Any] = {
        "action": episodes.actions,
        "episode_ends": np.cumsum(LENGTHS),
        "state": episodes.observations[STATE],
        "images.top": episodes.observations[TOP],
        "wrist": pictures if change is None else change(pictures),
    }
    np.savez(path, **arrays)
    if not message:
        np.testing.assert_array_equal(read(path).observations[WRIST], pictures)
        return
    if "whole" not in message:
        monkeypatch.setattr(
            "hotloop.train.data.decode.Decoding.run", lambda *_: pytest.fail("it was decoded")
        )
    pattern = message.format(WRIST, STATE, TOP)
    pattern = ".*".join(re.escape(part) for part in pattern.split(" .* "))
    with pytest.raises(ValueError, match=pattern) as error:
        read(path, cameras, seen)
    assert str(error.value).count("a.npz") == ("task 'reach'" not in message)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["policy.model.encoder.crop=[17,9]"], "crop (17, 9) is larger than the pictures of '{0}'"),
        (["policy.model.encoder.crop=[8,8]"], "needs pictures of at least 16 pixels a side"),
        (["policy.model.encoder.kind=resnet"], "no picture encoder 'resnet'"),
        (["policy.encoder_weights=no.safetensors"], "no.safetensors: there is no such file"),
        (["policy.cameras=[]", "policy.model.encoder.width=8"], "encoder.width has no effect here"),
        (["policy.cameras=[]", "policy.encoder_weights=a"], "encoder_weights has no effect here"),
        (["policy.model.encoder.resize=[9999,9]"], "encoder.resize must be between 1 and 4096"),
    ],
)
def test_settings_that_do_not_suit_the_pictures_are_refused_before_any_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: list[str], message: str
) -> None:
    episodes = two_cameras()
    pictures = np.tile(episodes.observations[TOP], (1, 2, 2, 1))  # 20 x 24
    seen = {STATE: episodes.observations[STATE], TOP: pictures}
    path = write_episodes(tmp_path / "a.hdf5", replace(episodes, observations=seen), "robomimic")
    monkeypatch.setattr(
        "hotloop.train.data.decode.Decoding.run", lambda *_: pytest.fail("it was decoded")
    )
    resized = [] if "resize" in settings[0] else ["policy.model.encoder.resize=[16,20]"]
    given = settings if "policy.cameras=[]" in settings else [*resized, *settings]
    overrides = ["policy=sdp", "task=recorded", f"task.dataset={path}", *given]
    with pytest.raises((ValueError, OSError), match=re.escape(message.format(TOP))):
        train(compose_training([*overrides, f"output_dir={tmp_path / 'run'}"]))
    assert not (tmp_path / "run").exists()


def test_a_size_that_is_declared_otherwise_is_refused(tmp_path: Path) -> None:
    path = write_episodes(tmp_path / "a", two_cameras(), "lerobot")
    info = path / "meta/info.json"
    text = re.sub(r"\[\s*8,\s*8,\s*3\s*\]", "[480, 640, 3]", info.read_text())
    info.write_text(text)
    message = f"'{WRIST}' are declared as 480 x 640 x 3, but the data is 8 x 8 x 3"
    with pytest.raises(ValueError, match=message):
        read(path)
    assert WRIST not in read(path, (TOP,)).observations


@pytest.mark.parametrize("encoding", ["PNG", "JPEG"])
def test_encoded_pictures_of_robomimic_are_decoded(tmp_path: Path, encoding: str) -> None:
    episodes = two_cameras()
    path = write_episodes(tmp_path / "a.hdf5", episodes, "robomimic")
    with h5py.File(path, "r+") as file:
        data: Any = file["data"]
        for demo in data.values():
            obs = demo["obs"]
            pictures = obs["wrist"][:]
            cells = np.empty(len(pictures), object)
            for index, picture in enumerate(pictures):
                encoded = io.BytesIO()
                Image.fromarray(picture).save(encoded, encoding)
                cells[index] = np.frombuffer(encoded.getvalue(), np.uint8)
            del obs["wrist"]
            obs.create_dataset("wrist", data=cells, dtype=h5py.vlen_dtype(np.uint8))
    found = read(path).observations[WRIST]
    assert found.dtype == np.uint8
    if encoding == "PNG":
        np.testing.assert_array_equal(found, episodes.observations[WRIST])
    with h5py.File(path, "r+") as file:
        stored: Any = file["data/demo_1/obs/wrist"]
        stored[1] = np.array([1, 2, 3], np.uint8)
    message = r"column 'obs/wrist' cannot be decoded .*'data/demo_1/obs/wrist': a picture cannot be"
    with pytest.raises(ValueError, match=message):
        read(path)


def test_pictures_are_decoded_once_with_progress_and_stay_where_they_are(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    monkeypatch.setattr("hotloop.train.data.formats.registry.MAX_PICTURES", 0)
    path = write_episodes(tmp_path / "a", two_cameras(), "lerobot")
    assert isinstance(read(path).observations[TOP], np.memmap)
    assert "decode a: 100%" in capsys.readouterr().err
    monkeypatch.setattr("hotloop.train.data.decode.Decoding.run", lambda *_: pytest.fail("again"))
    episodes = read(path)
    assert capsys.readouterr().err == ""

    windows = make_windows(ModelConfig(horizon=4, num_obs_steps=2), episodes)
    for key in (TOP, WRIST):
        mapped = episodes.observations[key]
        assert np.shares_memory(windows.observations[key].numpy(), mapped), "it was copied"
        batch = windows.gather(torch.tensor([0, 5])).observation[key]
        assert batch.dtype == torch.uint8 and batch.shape == (2, 2, *mapped.shape[1:])
        np.testing.assert_array_equal(batch[1], mapped[[4, 5]])


def test_a_training_from_pictures_goes_on_bit_for_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("hotloop.train.data.formats.registry.MAX_PICTURES", 0)
    episodes = two_cameras()
    wrist = np.tile(episodes.observations[WRIST], (1, 3, 3, 1))
    episodes = replace(episodes, observations={**episodes.observations, WRIST: wrist})
    data = write_episodes(tmp_path / "data", episodes, "lerobot")
    command = ["train", "policy=dp", "task=recorded", f"task.dataset={data}", "steps=6"]
    command += [f"policy.cameras=[{WRIST}]", "policy.model.encoder.crop=[16,20]", "save_every=3"]
    command += ["policy.model.encoder.num_keypoints=4", "policy.model.encoder.width=4"]
    command += ["policy.model.horizon=3", "policy.model.network.width=8", "batch_size=4"]
    command += ["policy.model.network.depth=1", "policy.sampling.num_execute=1"]
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert main([*command, f"output_dir={whole}"]) == 0
    shutil.copytree(whole, cut, symlinks=True)
    shutil.rmtree(cut / "checkpoints" / "000006")
    (cut / "checkpoints" / "last").unlink()
    (cut / "checkpoints" / "last").symlink_to("000003")
    assert main([*command, f"output_dir={cut}", "resume=true"]) == 0
    weights = [load_checkpoint(run).model.state_dict() for run in (whole, cut)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert load_checkpoint(whole).model.observation_shapes == {STATE: (4,), WRIST: (24, 24, 3)}
    assert sum("images.top" in message for message in caplog.messages) == 2, "once for each run"


def own_memory() -> int:
    """Memory of this process that no file has [bytes]."""
    status = Path("/proc/self/status").read_text()
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whose memory it is")
def test_an_epoch_needs_no_memory_for_pictures_but_the_batch(tmp_path: Path) -> None:
    shape, num_steps = (64, 64, 3), 12_000  # 150 MB
    pictures = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.uint8, (num_steps, *shape))
    del pictures
    mapped = np.load(tmp_path / "a.npy", mmap_mode="c")
    actions = np.zeros((num_steps, 2), np.float32)
    episodes = Episodes({TOP: mapped}, actions, np.array([num_steps // 2, num_steps]))
    before = own_memory()
    windows = Windows(episodes, (TOP,), 2, 4)
    most = 0
    for current in torch.randperm(num_steps).split(64):
        batch = windows.gather(current)
        most = max(most, own_memory() - before)
        del batch
    assert most < 32 * 2**20, f"{most / 2**20:.0f} MiB"
