"""Scores against latencies: what is drawn lies where its numbers say."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from hotloop.train.measure.pareto_plot import BOTTOM, HEIGHT, TOP, ParetoPoint, pareto_plot

POINTS = (
    ParetoPoint("slow & sure", "100 calls", 0.9, (0.8, 0.95), 10.0),
    ParetoPoint("slow & sure", "1 call", 0.5, (0.4, 0.6), 0.1),
    ParetoPoint("fast", "2 calls", 0.7, (0.6, 0.8), 1.0),
)


def drawn(shown: tuple[float, float] = (0.0, 1.0)) -> ElementTree.Element:
    return ElementTree.fromstring(pareto_plot("A task", POINTS, shown))


def places(tree: ElementTree.Element) -> list[tuple[float, float]]:
    """Centres of the points, without the discs of the legend, as they are drawn."""
    discs = [
        (float(one.attrib["cx"]), float(one.attrib["cy"])) for one in tree if one.tag == "circle"
    ]
    return [place for place in discs if place[1] < HEIGHT - BOTTOM + 1]


def test_equal_ratios_of_latency_are_equal_distances() -> None:
    (fast_x, _), (slow_x, _), (middle_x, _) = places(drawn())
    assert fast_x < middle_x < slow_x
    assert slow_x - middle_x == pytest.approx(middle_x - fast_x, abs=0.2)


def test_scores_are_heights_of_a_linear_axis() -> None:
    (_, low), (_, high), (_, middle) = places(drawn())
    assert high < middle < low
    assert low - middle == pytest.approx(middle - high, abs=0.2)
    (_, low), (_, high), _ = places(drawn(shown=(0.4, 0.9)))
    assert low - high == pytest.approx(0.4 / 0.5 * (HEIGHT - TOP - BOTTOM), abs=0.2)


def test_each_series_is_one_line_in_the_order_of_latency_and_stands_in_the_legend() -> None:
    tree = drawn()
    lines = [one.attrib["points"].split() for one in tree if one.tag == "polyline"]
    assert [len(line) for line in lines] == [2, 1]
    assert float(lines[0][0].split(",")[0]) < float(lines[0][1].split(",")[0])
    texts = [one.text for one in tree if one.tag == "text"]
    for text in ("A task", "slow & sure", "fast", "100 calls", "1 call", "2 calls"):
        assert texts.count(text) == 1


@pytest.mark.parametrize(
    ("shown", "numbers"),
    [
        ((0.0, 1.0), ["0", "0.2", "0.4", "0.6", "0.8", "1"]),
        ((0.4, 0.9), ["0.4", "0.5", "0.6", "0.7", "0.8", "0.9"]),
        ((0.0, 120.0), ["0", "20", "40", "60", "80", "100", "120"]),
    ],
)
def test_the_score_axis_has_round_numbers(shown: tuple[float, float], numbers: list[str]) -> None:
    texts = [one for one in drawn(shown) if one.tag == "text"]
    assert [one.text for one in texts if one.attrib["x"] == "40.0"] == numbers


def test_what_has_no_place_is_rejected() -> None:
    with pytest.raises(ValueError, match="a plot needs at least one point, got none"):
        pareto_plot("A task", (), (0, 1))
    with pytest.raises(ValueError, match=r"the score axis goes from 0 to 0\.8, got 0\.9"):
        pareto_plot("A task", POINTS, (0, 0.8))
    for score, latency in ((float("nan"), 1.0), (0.5, 0.0), (0.5, float("inf"))):
        with pytest.raises(ValueError, match="needs a finite score and a positive latency"):
            ParetoPoint("DP", "", score, (0, 1), latency)
