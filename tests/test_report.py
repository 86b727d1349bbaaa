"""The demo's report: one page that needs nothing else, and the same numbers as JSON."""

from __future__ import annotations

import base64
import dataclasses
import json
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from hotloop.train.demo.report import (
    Animation,
    DemoReport,
    Panel,
    Pareto,
    PolicyRow,
    render,
    write_report,
)
from hotloop.train.demo.rollouts import Rollouts
from hotloop.train.measure.latency_plot import latency_plot
from hotloop.train.measure.pareto_plot import ParetoPoint

VOID = {"meta", "br", "img"}
POINT = ParetoPoint("DP", "1 call", 0.5, (0, 1), 1.0)
PATH = np.array([[-0.6, 0.0], [0.0, 0.31234], [1.6, 0.0]])


class Page(HTMLParser):
    """Collects attributes, table cells and text, and checks that every tag is closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.links: list[str] = []
        self.cells: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert not self.open, f"unclosed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset")]
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if {"td", "th"} & set(self.open):
            self.cells[-1] += data


def row(name: str = "DP, 10 calls", median_ms: float = 10.0, **changes: object) -> PolicyRow:
    latency = median_ms * np.exp(np.random.default_rng(0).normal(0, 0.1, 401))
    values = PolicyRow(name, 10, 8, 0.92, (0.81, 0.97), range(50), latency)
    return dataclasses.replace(values, **changes)  # type: ignore[arg-type]


@pytest.fixture
def report() -> DemoReport:
    return DemoReport(
        headline="One network call per control step is 50 times faster",
        summary="Demonstrations, training and evaluation took 8 minutes.",
        rows=[row(), row("SDP, 1 call", 0.25, calls_per_step=1, num_execute=1, seeds=[3, 8])],
        facts={"processor": "2 cores", "environment": "PointMaze"},
        commands={"hotloop eval pusht-sdp": "Score a ready-made policy."},
        note="Times are of PyTorch.",
        explanation=["Two ways are right.", "Their mean is wrong."],
        panels=[Panel("The driver", "Either side.", Rollouts((PATH,), (True,), (0.4,)))],
        pareto=[
            Pareto("A task", (0, 1), (ParetoPoint("DP", "1 call", 0.5, (0, 1), 1.0),), "Here.")
        ],
        seconds={"training": 12.345},
        animation=Animation(b"\x00video", "video/mp4", "SDP in the maze"),
    )


def test_the_page_is_well_formed_and_needs_no_other_file(report: DemoReport) -> None:
    html = render(report)
    page = Page(html)
    assert all(link.startswith("data:") for link in page.links)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert not any(outside in html for outside in ("http://", "https://", "url(", "@import"))


def test_headline_facts_commands_and_caption_are_on_the_page(report: DemoReport) -> None:
    text = Page(render(report)).text
    wanted = [report.headline, report.summary, *report.facts, *report.facts.values()]
    wanted += [*report.commands, *report.commands.values(), "SDP in the maze", report.note]
    wanted += [*report.explanation, "The driver", "Either side.", "A task", "DP", "1 call", "Here."]
    for piece in wanted:
        assert piece in text


def test_sections_that_have_nothing_to_show_are_left_out(report: DemoReport) -> None:
    bare = dataclasses.replace(report, explanation=(), panels=(), pareto=())
    assert "Why they differ" in render(report)
    assert "Score against latency" in render(report)
    assert "Why they differ" not in render(bare)
    assert "Score against latency" not in render(bare)


def test_the_json_has_the_paths_to_the_millimetre(report: DemoReport) -> None:
    told = report.to_json()
    assert told["panels"]["The driver"] == {
        "reached": [True],
        "sideways": [0.4],
        "paths": [[[-0.6, 0.0], [0.0, 0.312], [1.6, 0.0]]],
    }
    assert told["seconds"] == {"training": 12.3}


def test_the_table_shows_the_numbers_of_the_json(report: DemoReport, tmp_path: Path) -> None:
    write_report(tmp_path / "report.html", report)
    cells = Page((tmp_path / "report.html").read_text(encoding="utf-8")).cells[8:]
    rows = json.loads((tmp_path / "report.json").read_text())["rows"]
    assert len(rows) == 2
    for index, numbers in enumerate(rows):
        name, calls, executed, success, episodes, median, p99, rate = cells[8 * index :][:8]
        assert (name, int(calls)) == (numbers["name"], numbers["calls_per_step"])
        assert int(executed) == numbers["num_execute"]
        percents = [float(part.rstrip("%")) / 100 for part in success.split() if part != "to"]
        assert percents == pytest.approx([numbers["success"], *numbers["ci95"]], abs=5e-4)
        assert int(episodes.split()[0]) == numbers["num_episodes"]
        shown = [float(cell.split()[0]) for cell in (median, p99, rate)]
        stored = [numbers[key] for key in ("median_ms", "p99_ms", "rate_hz")]
        assert shown == pytest.approx(stored, rel=5e-3)


def test_the_numbers_follow_from_the_measurements() -> None:
    numbers = row(latency_ms=np.linspace(1, 5, 401)).numbers()
    assert (numbers["median_ms"], numbers["rate_hz"]) == pytest.approx((3.0, 1000 / 3))
    assert numbers["p99_ms"] == pytest.approx(1 + 0.99 * 4)
    assert (numbers["num_episodes"], numbers["num_latencies"]) == (50, 401)


@pytest.mark.parametrize(
    ("seeds", "text"),
    [
        (range(7, 57), "50 seeds 7 to 56"),
        ([3, 8], "2 seeds 3, 8"),
        ([9, 1, 5, 4, 2], "5 from 1 to 9"),
    ],
)
def test_many_seeds_are_written_as_a_range(
    seeds: Sequence[int], text: str, report: DemoReport
) -> None:
    page = Page(render(dataclasses.replace(report, rows=[row(seeds=seeds)])))
    assert page.cells[8 + 4] == text


def test_text_cannot_become_markup(report: DemoReport) -> None:
    evil = '<script>alert("x")</script>&'
    replaced = dataclasses.replace(
        report,
        headline=evil,
        summary=evil,
        rows=[row(evil)],
        facts={evil: evil},
        commands={evil: evil},
        note=evil,
        explanation=[evil],
        panels=[Panel(evil, evil, report.panels[0].rollouts)],
        pareto=[Pareto(evil, (0, 1), (ParetoPoint(evil, evil, 0.5, (0, 1), 1.0),), evil)],
        animation=Animation(b"", "image/gif", evil),
    )
    page = Page(render(replaced))
    assert "script" not in page.tags
    assert page.text.count(evil) == 9 + 4 + 4


def test_an_animation_is_embedded_byte_for_byte(report: DemoReport) -> None:
    data = bytes(range(256))
    for mime, tag in (("video/mp4", "video"), ("image/gif", "img")):
        animated = dataclasses.replace(report, animation=Animation(data, mime, "rollout"))
        page = Page(render(animated))
        prefix, _, payload = page.links[0].partition(",")
        assert (tag in page.tags, prefix) == (True, f"data:{mime};base64")
        assert base64.b64decode(payload) == data
    assert "A rollout" not in render(dataclasses.replace(report, animation=None))


def test_a_report_is_replaced_as_a_whole_and_leaves_nothing_else(
    report: DemoReport, tmp_path: Path
) -> None:
    path = tmp_path / "new" / "report.html"
    write_report(path, report)
    before = path.read_text(encoding="utf-8")
    write_report(path, dataclasses.replace(report, headline="again"))
    assert "again" in path.read_text(encoding="utf-8") != before
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["report.html", "report.json"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"success": 0.5}, r"DP, 10 calls: success must lie within ci95"),
        ({"success": float("nan")}, r"success must lie within ci95, both within \[0, 1\]; got nan"),
        ({"ci95": (0.5, 1.1)}, r"success must lie within ci95, both within \[0, 1\]"),
        ({"seeds": []}, r"expected the seed of at least one episode, got none"),
        ({"latency_ms": np.array([])}, r"latency_ms must hold positive numbers, got \[\]"),
        ({"latency_ms": np.array([1.0, np.nan])}, r"latency_ms must hold positive numbers"),
        ({"latency_ms": np.array([1.0, 0.0])}, r"latency_ms must hold positive numbers"),
    ],
)
def test_what_cannot_be_a_measurement_is_rejected(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        row(**changes)


def test_a_success_rate_of_one_survives_rounding_in_its_interval() -> None:
    assert row(success=1.0, ci95=(0.9, 1 - 1e-16)).numbers()["success"] == 1.0


def test_an_animation_must_be_something_a_browser_plays() -> None:
    with pytest.raises(ValueError, match="mime must be a video/ or image/ type, got 'text/html'"):
        Animation(b"", "text/html", "")


def test_the_plot_places_each_median_on_the_logarithmic_axis() -> None:
    svg = latency_plot(
        {"a & b": np.full(5, 0.1), "fast": np.full(5, 1.0), "slow": np.full(5, 10.0)}
    )
    tree = ElementTree.fromstring(svg)
    marks = [path.attrib["d"] for path in tree if path.attrib.get("class") == "median"]
    first, second, third = (float(d[1:].split()[0]) for d in marks)
    assert third - second == pytest.approx(second - first, abs=0.2)
    assert second > first
    labels = [text.text for text in tree if text.attrib.get("class") == "label"]
    assert labels == ["a & b", "fast", "slow"]


def test_the_plot_survives_identical_latencies_of_one_policy() -> None:
    ElementTree.fromstring(latency_plot({"constant": np.full(3, 1.0)}))
