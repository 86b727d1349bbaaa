import dataclasses
import subprocess
import sys

import imageio_ffmpeg
import numpy as np
import pytest
from drift import DRIFT, Drift
from noisy_hold import NoisyHold

from hotloop.decoding import ActionSpec, ObservationSpec
from hotloop.envs import TASKS, Video, evaluate, make_task

SEEDS = range(100, 117)


def test_episodes_are_the_same_for_any_number_of_environments():
    alone = evaluate(NoisyHold(), DRIFT, SEEDS)
    assert len({episode.num_steps for episode in alone.episodes}) > 5
    for num_envs in (2, 5, 17, 40):
        assert evaluate(NoisyHold(), DRIFT, SEEDS, num_envs).episodes == alone.episodes


@pytest.mark.parametrize("latency", [1, 2])
def test_latency_changes_an_episode_but_not_with_the_number_of_environments(latency):
    prompt = evaluate(NoisyHold(), DRIFT, SEEDS, 4)
    alone = evaluate(NoisyHold(), DRIFT, SEEDS, latency=latency)
    together = evaluate(NoisyHold(), DRIFT, SEEDS, 4, latency=latency)
    assert together.episodes == alone.episodes != prompt.episodes


def test_num_execute_overrides_the_policys_own():
    own, one = (evaluate(NoisyHold(), DRIFT, SEEDS, 4, num_execute=n) for n in (None, 1))
    assert one.episodes != own.episodes
    assert evaluate(NoisyHold(), DRIFT, SEEDS, 4, num_execute=3).episodes == own.episodes


def test_an_episode_is_one_of_the_environment_run_by_hand():
    seed, env = 103, Drift()
    policy = NoisyHold(noise=0.0)
    frame, done, rewards = env.reset(seed), False, []
    action = None
    while not done:
        if len(rewards) % policy.num_execute == 0:
            action = frame["observation.state"].astype(np.float64)
        frame, reward, done = env.step(action)
        rewards.append(reward)
    env.close()
    evaluation = evaluate(policy, DRIFT, [101, seed])
    assert (evaluation.task, evaluation.metric) == ("drift", "largest distance")
    episode = evaluation.episodes[1]
    assert (episode.episode_ix, episode.seed, episode.num_steps) == (1, seed, len(rewards))
    assert episode.sum_reward == pytest.approx(sum(rewards))
    assert episode.max_reward == episode.score == pytest.approx(max(rewards))
    assert episode.success == (max(rewards) > 0.4)


def test_episodes_come_in_the_order_of_their_seeds_and_times_are_measured():
    seeds = [120, 101, 111]
    evaluation = evaluate(NoisyHold(), DRIFT, seeds, 2)
    assert evaluation.seeds == tuple(seeds)
    assert [episode.episode_ix for episode in evaluation.episodes] == [0, 1, 2]
    assert 0 < evaluation.policy_ms < 1e3 * evaluation.wall_s


def test_environments_are_closed_also_after_an_error():
    class Failing(NoisyHold):
        def plan(self, observation, step):
            raise ValueError("no plan")

    evaluate(NoisyHold(), DRIFT, SEEDS, 3)
    with pytest.raises(ValueError, match="no plan"):
        evaluate(Failing(), DRIFT, SEEDS, 3)
    assert Drift.num_open == 0


def test_a_progress_bar_is_shown_where_it_is_asked_for(capsys):
    evaluate(NoisyHold(), DRIFT, SEEDS, 3)
    assert capsys.readouterr().err == ""
    evaluate(NoisyHold(), DRIFT, SEEDS, 3, progress="drifting")
    assert "drifting: 100%" in capsys.readouterr().err


@pytest.mark.parametrize("seeds", [[], [1, 2, 1]])
def test_missing_or_repeated_seeds_are_refused(seeds):
    with pytest.raises(ValueError, match="at least one seed and no seed twice"):
        evaluate(NoisyHold(), DRIFT, seeds)


def test_a_number_of_environments_that_is_none_is_refused():
    with pytest.raises(ValueError, match="num_envs must be at least 1, got 0"):
        evaluate(NoisyHold(), DRIFT, SEEDS, 0)


@pytest.mark.parametrize(
    ("attribute", "value", "message"),
    [
        ("action_spec", ActionSpec(("x",), (0.0,), (1.0,), 0.1), "takes 2 action dimensions"),
        ("action_spec", dataclasses.replace(DRIFT.action_spec, dt=0.2), "control period of 0.1 s"),
        ("action_spec", NoisyHold(high=3.0).action_spec, r"may plan from .* to \(3.0, 3.0\)"),
        (
            "observation_spec",
            ObservationSpec({"observation.image": (2,)}, 1),
            "'observation.image'",
        ),
        ("observation_spec", ObservationSpec({"observation.state": (4,)}, 1), r"of shape \(4,\)"),
    ],
)
def test_a_policy_that_does_not_fit_the_task_is_refused_before_it_runs(attribute, value, message):
    policy = NoisyHold()
    setattr(policy, attribute, value)
    with pytest.raises(ValueError, match=message):
        evaluate(policy, DRIFT, SEEDS)


def test_the_video_shows_the_first_episodes_one_after_the_other(tmp_path):
    path = tmp_path / "new" / "episodes.mp4"
    evaluation = evaluate(NoisyHold(), DRIFT, SEEDS, 3, video=Video(path, num_episodes=2))
    command = [imageio_ffmpeg.get_ffmpeg_exe(), "-i", path, "-f", "rawvideo", "-pix_fmt", "rgb24"]
    decoded = subprocess.run([*command, "-"], capture_output=True, check=True)
    assert b" 10 fps" in decoded.stderr
    pictures = np.frombuffer(decoded.stdout, np.uint8).reshape(-1, 32, 48, 3)
    brightness = pictures.mean(axis=(1, 2, 3))
    lengths = [episode.num_steps + 1 for episode in evaluation.episodes[:2]]
    expected = np.concatenate([20 * np.arange(length) for length in lengths])
    np.testing.assert_allclose(brightness, expected, atol=6)
    assert [file.name for file in path.parent.iterdir()] == ["episodes.mp4"]


def test_a_fast_task_is_shown_in_real_time_with_fewer_pictures(tmp_path):
    video, env = Video(tmp_path / "fast.mp4"), Drift()
    env.reset(0)
    for step in range(9):
        video.capture(env.render, episode_ix=0, step=step, dt=0.01)
    video.capture(env.render, episode_ix=1, step=0, dt=0.01)
    env.close()
    assert [len(pictures) for pictures in video._pictures] == [3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("episode.gif",), "written as .mp4, got 'episode.gif'"),
        (("a.mp4", 0), "at least 1 episode"),
    ],
)
def test_a_video_that_cannot_be_written_is_refused_at_once(arguments, message):
    with pytest.raises(ValueError, match=message):
        Video(*arguments)


def test_a_missing_encoder_names_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ImportError, match=r"pip install 'hotloop\[mujoco\]'"):
        Video("episode.mp4")


def test_real_tasks_are_evaluated_the_same_side_by_side():
    class Hold(NoisyHold):
        def __init__(self, task):
            super().__init__(noise=0.3)
            self.action_spec = task.action_spec
            self.observation_spec = ObservationSpec({"observation.goal": (2,)}, 2)

        def plan(self, observation, step):
            frames = {"observation.state": observation.frames["observation.goal"]}
            return super().plan(dataclasses.replace(observation, frames=frames), step)

    task = make_task("pointmaze-umaze")
    alone = evaluate(Hold(task), task, range(4))
    assert evaluate(Hold(task), task, range(4), 3).episodes == alone.episodes


def test_tasks_are_found_by_name():
    assert {"pusht", "pointmaze-umaze", "maze2d-large", "hopper", "kitchen", "pen"} <= set(
        TASKS.names
    )
    for name in TASKS.names:
        assert make_task(name).name == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("pushT", "did you mean pusht\\?"),
        ("pointmaze_large", "did you mean pointmaze-large\\?"),
        ("xyz", r"there is no task 'xyz'; choose from ant, antmaze-large"),
    ],
)
def test_an_unknown_task_is_answered_with_the_nearest_names(name, message):
    with pytest.raises(ValueError, match=message):
        make_task(name)
