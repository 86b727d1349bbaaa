"""Distillation without a dataset: students learn from what their teacher does in its simulator."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drift import DRIFT, Drift
from noisy_hold import NoisyHold
from tiny import write_pusht_file

from hotloop.envs.registry import make_task
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.train.cli import main
from hotloop.train.commands import ExitCode
from hotloop.train.config.training import TrainConfig
from hotloop.train.distillation import rollouts
from hotloop.train.distillation.run import compose_distillation
from hotloop.train.training import demonstrations

pytest.importorskip("pymunk")
SMALL = ("policy.model.network.width=16", "policy.model.network.depth=1", "steps=2", "batch_size=8")
BRIEFLY = ("steps=2", "save_every=2", "batch_size=8", "report=false", "distill.num_rollouts=2")
METHODS = {
    "sampler": ("calls=2", "distill.teacher_steps=4", "distill.num_pairs=8"),
    "flow-map": ("calls=1", "distill.num_trajectories=32", "distill.solver_steps=4"),
    "segment": ("calls=1", "distill.num_visits=8", "distill.refresh_every=2"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tiny teachers of Push-T, and a cache."""
    folder = tmp_path_factory.mktemp("rollouts")
    data = write_pusht_file(folder / "demos.npz")
    for kind in ("dp", "sdp"):
        run = (f"policy={kind}", f"task.dataset={data}", f"output_dir={folder / kind}")
        few = ("policy.sampling.calls_per_step=2",)
        assert main(["train", *SMALL, *run, *few]) == ExitCode.SUCCESS
    return folder


@pytest.fixture(autouse=True)
def cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOTLOOP_CACHE", str(folder / "cache"))


def student_run(folder: Path, *overrides: str) -> TrainConfig:
    return compose_distillation(str(folder / "dp"), ["distill.num_rollouts=2", *overrides]).config


@pytest.mark.parametrize("method", METHODS)
def test_the_teacher_alone_will_do(method: str, folder: Path) -> None:
    """What a student needs to know of the data are its teacher's normalisers."""
    teacher, output = folder / ("sdp" if method == "segment" else "dp"), folder / method
    few = (f"output_dir={output}", f"method={method}", *BRIEFLY, *METHODS[method])
    assert main(["distill", str(teacher), *few]) == ExitCode.SUCCESS
    student, before = load_checkpoint(output), load_checkpoint(teacher)
    assert student.provenance["task"] == "pusht" and student.provenance["num_episodes"] == 2
    for name in ("action_normalizer", "observation_normalizer"):
        own, theirs = (getattr(one.model, name).state_dict() for one in (student, before))
        assert all(torch.equal(own[key], theirs[key]) for key in theirs)


def test_every_second_episode_is_disturbed_and_tells_what_the_teacher_wanted(folder: Path) -> None:
    """Recorded actions lead through the recorded states where nothing disturbed them."""
    config, task = student_run(folder, "distill.rollout_noise=0.5"), make_task("pusht")
    episodes, spec = demonstrations(config)
    assert spec == task.action_spec and episodes.num_episodes == 2
    first = rollouts.first_seed(config.seed)
    borders = zip(episodes.episode_starts, episodes.episode_ends, strict=True)
    for seed, (begin, end) in zip((first, first + 1), borders, strict=True):
        with contextlib.closing(task.make()) as env:
            frames = [env.reset(seed)]
            for action in episodes.actions[begin : end - 1]:
                frames.append(env.step(action)[0])
        for key, values in episodes.observations.items():
            led_there = np.stack([frame[key] for frame in frames])
            same = np.allclose(led_there, values[begin:end], atol=1e-2)
            assert same == bool(seed % 2), f"{key} of the episode with seed {seed}"


def test_rollouts_go_on_where_they_were_killed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = student_run(folder, "seed=7")
    monkeypatch.setattr(rollouts, "_BLOCK", 1)
    original, simulated = rollouts.roll_out, []

    def roll_out(policy: Any, task: Any, seeds: range, *rest: Any) -> Any:
        if len(simulated) == 1 and seeds not in simulated:
            simulated.append(seeds)
            raise KeyboardInterrupt
        simulated.append(seeds)
        return original(policy, task, seeds, *rest)

    monkeypatch.setattr(rollouts, "roll_out", roll_out)
    with pytest.raises(KeyboardInterrupt):
        demonstrations(config)
    resumed, _ = demonstrations(config)
    assert [seeds.start - simulated[0].start for seeds in simulated] == [0, 1, 1]
    demonstrations(config)
    assert len(simulated) == 3, "what is there is not simulated again"
    monkeypatch.setenv("HOTLOOP_CACHE", str(folder / "another"))
    whole, _ = demonstrations(config)
    assert np.array_equal(resumed.actions, whole.actions)
    assert np.array_equal(resumed.episode_ends, whole.episode_ends)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (("method=mean-flow",), r"method mean-flow needs .* or choose a method that needs the t"),
        (("task=recorded", "task.check=false"), r"no simulator belongs to, so its student needs"),
        (("distill.rollout_noise=-1",), r"distill\.rollout_noise must be at least 0, got -1"),
        (("task.dataset=x",), r"num_rollouts has no effect here: task\.dataset is read"),
        (("policy.action_normalization=z_score",), r"takes over its teacher's .* normalisation"),
    ],
)
def test_a_student_that_can_learn_from_nothing_is_told_so(
    overrides: tuple[str, ...], message: str, folder: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        student_run(folder, *overrides)


class OftenBlind(Drift):
    """Counts steps in a vector, and shows the newest count that it was asked to draw."""

    drawn, shown = True, 0

    def frame(self) -> dict[str, np.ndarray]:
        if self.drawn:
            self.shown = self.step_count
        return {"observation.state": np.full(2, self.shown, np.float32)}


def test_every_picture_of_a_rollout_is_drawn() -> None:
    """Not only those that the teacher plans from, which are all that an evaluation draws."""
    task = replace(DRIFT, make=OftenBlind, observation_shapes={"observation.state": (2,)})
    arrays = rollouts.roll_out(NoisyHold(), task, range(4, 6), noise=0.0)
    steps = [np.arange(length) for length in arrays["lengths"]]
    np.testing.assert_array_equal(arrays["observation.state"][:, 0], np.concatenate(steps))
