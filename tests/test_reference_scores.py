import pytest

from hotloop.envs import TASKS, make_task, normalized_score, reference_scores
from hotloop.envs.rollout import Episode, Evaluation
from hotloop.train.commands.eval import report
from hotloop.train.config.evaluation import EvalConfig
from hotloop.train.data.formats.d4rl_ids import D4RL_FILES


def test_the_reference_returns_score_0_and_100():
    for name in D4RL_FILES:
        minimum, maximum = reference_scores(name)
        assert normalized_score(name, minimum) == 0
        assert normalized_score(name, maximum) == 100
        assert normalized_score(name, (minimum + maximum) / 2) == pytest.approx(50)


@pytest.mark.parametrize(
    ("name", "episode_return", "score"),
    [
        ("hopper-medium-v2", 1000, 31.35),
        ("hopper-medium-expert-v2", 3269, 101.07),
        ("maze2d-medium-dense-v1", 44.264742, 0),
        ("kitchen-mixed-v0", 3, 75),
        ("antmaze-large-diverse-v2", 1, 100),
        ("pen", 3076.8331017826877, 100),
    ],
)
def test_scores_are_those_of_d4rl(name, episode_return, score):
    assert normalized_score(name, episode_return) == pytest.approx(score, abs=0.005)


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("hoper-medium-v2", "hopper"),
        ("walker-medium-v2", "walker2d"),
        ("maze2d-umaze-v0", "maze2d-umaze"),
        ("hopper-mediocre-v2", "hopper"),
        ("pusht", "halfcheetah"),
    ],
)
def test_an_id_that_d4rl_does_not_know_names_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=f"no reference scores for '{name}'; nearest.*({nearest})"):
        normalized_score(name, 0.0)


def test_every_task_of_d4rls_environments_scores_by_its_references():
    named = [task for task in map(make_task, TASKS.names) if task.reference is not None]
    assert len(named) >= 16
    for task in named:
        assert task.reference == reference_scores(task.name)


def evaluation(task, scores):
    episodes = tuple(
        Episode(i, i, score, False, sum_reward=0.0, max_reward=0.0, num_steps=1)
        for i, score in enumerate(scores)
    )
    return Evaluation(task, make_task(task).metric, episodes, wall_s=1.0, policy_ms=1.0)


def test_normalised_returns_are_printed_as_d4rl_does(capsys):
    """Mean and standard error times 100: of 0.5 and 0.7 the error is 0.1414 / sqrt(2) = 0.1."""
    report("mine", evaluation("hopper", (0.5, 0.7)), EvalConfig(), "eval_info.json")
    assert capsys.readouterr().out == (
        "mine on hopper: D4RL score 60.0 ± 10.0 (standard error), success 0 %, n 2, seeds 0 to 1\n"
    )
    report("mine", evaluation("hopper", (1.1,)), EvalConfig(), "eval_info.json")
    assert "D4RL score 110.0, success" in capsys.readouterr().out


def test_other_scores_are_printed_from_0_to_1(capsys):
    report("mine", evaluation("pusht", (0.5, 0.5)), EvalConfig(), "eval_info.json")
    assert "0.500 (95 % interval 0.500 to 0.500)" in capsys.readouterr().out
