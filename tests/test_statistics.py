import dataclasses
import json

import numpy as np
import pytest

from hotloop.envs import (
    Episode,
    Evaluation,
    bootstrap_interval,
    compare,
    read_json,
    summary,
    wilson_interval,
    write_json,
)


def evaluation(scores, seeds=None, task="pusht") -> Evaluation:
    seeds = range(len(scores)) if seeds is None else seeds
    episodes = tuple(
        Episode(index, seed, float(score), bool(score >= 1), 10.0 * score, float(score), 100)
        for index, (seed, score) in enumerate(zip(seeds, scores, strict=True))
    )
    return Evaluation(task, "coverage", episodes, wall_s=20.0, policy_ms=1.5)


@pytest.mark.parametrize(("num_success", "num_trials"), [(0, 50), (45, 50), (50, 50), (1, 1)])
def test_the_wilson_interval_holds_the_rates_that_a_score_test_does_not_reject(
    num_success, num_trials
):
    """Wilson 1927: the bounds solve (rate - p)^2 = z^2 p (1 - p) / n."""
    z, rate = 1.959963984540054, num_success / num_trials
    for bound in wilson_interval(num_success, num_trials):
        assert (rate - bound) ** 2 == pytest.approx(
            z**2 * bound * (1 - bound) / num_trials, abs=1e-9
        )
    low, high = wilson_interval(num_success, num_trials)
    assert low - 1e-12 <= rate <= high + 1e-12
    assert low < high


@pytest.mark.parametrize(("num_success", "num_trials"), [(0, 0), (-1, 5), (6, 5)])
def test_a_success_count_that_is_none_is_refused(num_success, num_trials):
    with pytest.raises(ValueError, match=f"got {num_success} in {num_trials}"):
        wilson_interval(num_success, num_trials)


def test_the_bootstrap_interval_agrees_with_the_normal_one_where_that_holds():
    values = np.random.default_rng(0).normal(0.5, 0.1, 200)
    half_width = 1.96 * values.std() / np.sqrt(200)
    low, high = bootstrap_interval(values)
    assert low == pytest.approx(values.mean() - half_width, abs=0.15 * half_width)
    assert high == pytest.approx(values.mean() + half_width, abs=0.15 * half_width)


def test_the_bootstrap_interval_covers_the_mean_about_as_often_as_it_says():
    """Binomial(100, 0.9) is below 81 with probability 0.002."""
    rng = np.random.default_rng(1)
    samples = rng.uniform(0, 1, (100, 40))
    intervals = [bootstrap_interval(values, 0.9, num_resamples=500) for values in samples]
    assert sum(low <= 0.5 <= high for low, high in intervals) >= 81


def test_the_bootstrap_interval_is_the_same_for_the_same_seed():
    values = [0.1, 0.5, 0.9, 1.0]
    assert bootstrap_interval(values) == bootstrap_interval(values)
    assert bootstrap_interval(values) != bootstrap_interval(values, seed=1, num_resamples=99)


@pytest.mark.parametrize("values", [[1.0], [0.25, 0.25, 0.25]])
def test_equal_values_have_an_interval_of_no_width(values):
    assert bootstrap_interval(values) == (values[0], values[0])


@pytest.mark.parametrize("values", [[], [0.5, np.nan], [[0.5, 0.6]]])
def test_values_that_have_no_mean_are_refused(values):
    with pytest.raises(ValueError, match="at least one finite value"):
        bootstrap_interval(values)


def test_a_comparison_looks_at_the_differences_of_the_pairs():
    first = evaluation([0.2, 0.4, 0.6, 0.8, 0.5])
    second = evaluation([0.3, 0.5, 0.7, 0.9, 0.5])
    result = compare(first, second)
    assert result.mean_difference == pytest.approx(0.08)
    assert (result.num_episodes, result.num_better, result.num_worse) == (5, 4, 0)
    assert 0 < result.ci95.low < 0.08 < result.ci95.high <= 0.1 + 1e-12
    assert result.sign_p == pytest.approx(2 * 0.5**4)
    assert result.mcnemar_p == 1


def test_mcnemar_counts_the_pairs_that_only_one_of_both_solves():
    first = evaluation([1, 1, 0, 0, 0, 0, 0, 0])
    second = evaluation([1, 0, 1, 1, 1, 1, 1, 0])
    # Five gained, one lost: two-sided binomial tail 2 (C(6, 0) + C(6, 1)) / 2^6.
    assert compare(first, second).mcnemar_p == pytest.approx(2 * (1 + 6) / 64)


def test_the_comparison_turns_round_with_its_arguments():
    first, second = evaluation([0.2, 0.9, 0.4]), evaluation([0.6, 0.7, 1.0])
    one, other = compare(first, second), compare(second, first)
    assert one.mean_difference == pytest.approx(-other.mean_difference)
    assert (one.num_better, one.num_worse) == (other.num_worse, other.num_better)
    assert one.sign_p == other.sign_p


def test_an_evaluation_equals_itself():
    same = evaluation([0.1, 1.0, 0.3])
    result = compare(same, same)
    assert (result.mean_difference, result.ci95) == (0, (0, 0))
    assert (result.sign_p, result.mcnemar_p) == (1, 1)


@pytest.mark.parametrize("seeds", [[5, 6, 8], [6, 5, 7], [5, 6]])
def test_evaluations_over_other_seeds_are_not_comparable(seeds):
    first, second = evaluation([0.5] * 3, [5, 6, 7]), evaluation([0.5] * len(seeds), seeds)
    with pytest.raises(ValueError, match=r"needs the same seeds .* 3 seeds \[5, 6, 7\] and"):
        compare(first, second)


def test_evaluations_of_other_tasks_are_not_comparable():
    with pytest.raises(ValueError, match="task 'pusht' with task 'pointmaze-umaze'"):
        compare(evaluation([0.5]), evaluation([0.5], task="pointmaze-umaze"))


def test_the_summary_holds_means_intervals_and_seeds():
    result = summary(evaluation([0.5, 1.0, 1.0, 0.7], seeds=[4, 5, 6, 7]))
    assert (result["n"], result["seeds"]) == (4, [4, 5, 6, 7])
    assert result["mean_score"] == pytest.approx(0.8)
    assert result["ci95"][0] < 0.8 < result["ci95"][1]
    assert result["pc_success"] == 50
    assert result["pc_success_ci95"] == [100 * bound for bound in wilson_interval(2, 4)]
    assert result["avg_sum_reward"] == pytest.approx(8)
    assert result["avg_max_reward"] == pytest.approx(0.8)
    assert (result["eval_s"], result["eval_ep_s"], result["policy_ms"]) == (20, 5, 1.5)


def test_a_written_evaluation_is_read_back_as_it_was(tmp_path):
    path = tmp_path / "new" / "eval_info.json"
    original = evaluation([0.5, 1.0, 0.3])
    write_json(original, path)
    assert read_json(path) == original
    content = json.loads(path.read_text())
    assert content["aggregated"] == summary(original)
    assert content["per_episode"][1]["success"] is True
    assert [file.name for file in path.parent.iterdir()] == ["eval_info.json"]


def test_a_file_is_not_replaced_by_one_that_cannot_be_written(tmp_path):
    path = tmp_path / "eval_info.json"
    write_json(evaluation([0.5]), path)
    before = path.read_text()
    broken = dataclasses.replace(evaluation([0.9]), policy_ms=np.nan)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(broken, path)
    assert path.read_text() == before


@pytest.mark.parametrize(
    "content", ["[]", "{}", "not json", '{"aggregated": {}, "per_episode": 3}']
)
def test_another_file_is_not_an_evaluation(tmp_path, content):
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"other.json is not an evaluation"):
        read_json(path)
