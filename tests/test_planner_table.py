"""The table of planners: settings chosen on other episodes, intervals that hold training seeds."""

import numpy as np
from benchmarks.planner_table import format_table, interval, reported


def test_no_episode_is_reported_by_a_setting_that_was_chosen_on_it():
    """What is best on one half of the episodes is what the other half counts."""
    first = np.array([[9.0, 9.0, 1.0, 1.0]])
    second = np.array([[2.0, 2.0, 8.0, 8.0]])
    np.testing.assert_array_equal(reported([first, second]), [[2, 2, 1, 1]])
    np.testing.assert_array_equal(reported([first]), first)


def test_the_interval_holds_what_another_training_would_do():
    alike = np.tile([50.0, 52.0], (4, 10))
    assert interval(alike)[1] - interval(alike)[0] < 2
    low, high = interval(alike + np.array([[-40], [-10], [10], [40]]))
    assert low < 35
    assert high > 67


def test_the_table_has_what_was_measured_and_no_more():
    def row(kind, seed, setting, scores):
        return {"part": "scores", "dataset": "hopper-medium", "kind": kind, "seed": seed,
                "setting": setting, "scores": scores}  # fmt: skip

    rows = [
        row("diffuser", 42, {}, [10.0, 20.0]),
        row("decision_diffuser", 42, {"guidance": 1.2}, [0.0, 0.0]),
        row("decision_diffuser", 42, {"guidance": 3.0}, [30.0, 30.0]),
        row("decision_diffuser", 43, {"guidance": 3.0}, [90.0, 90.0]),
        {"part": "latency"},
    ]
    *_, line = format_table(rows).splitlines()
    assert line.startswith("| hopper-medium | 15.0 (10 to 20; 15) | 30.0 (30 to 30; 30) |  |")
