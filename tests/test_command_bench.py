"""`hotloop bench` from the command line to its JSON file, on the checkpoints that are included."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hotloop.train.cli import main
from hotloop.train.commands import ExitCode

pytestmark = pytest.mark.usefixtures("operators_read_once")
ENGINES = ("eager", "onnx")


def bench(output: Path, *arguments: str) -> list[dict[str, Any]]:
    """Run the command and return the rows that it wrote."""
    assert main(["bench", *arguments, f"output={output}"]) == ExitCode.SUCCESS
    return json.loads(output.read_text())["rows"]


def test_rows_compare_both_policies_on_every_engine(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("onnxruntime")
    output = tmp_path / "latency.json"
    rows = bench(output, "pusht-dp", "pusht-sdp", "engines=[eager]", "steps=4")
    names = {row["name"] for row in rows}
    assert names >= {"dp-ddpm-100", "dp-ddim-10", "dp-ddim-1", "sdp-2", "sdp-1"}
    more = bench(output, "pusht-dp", "pusht-sdp", "engines=[eager,onnx]", "calls=[1]", "steps=4")
    for engine in ENGINES:
        assert {row["name"] for row in more if row["engine"] == engine} >= {"dp-ddim-1", "sdp-1"}
    for row in rows + more:
        assert 0 < row["median_ms"] <= row["p99_ms"]
        assert row["overhead"] > -1
        assert 0 <= row["parity_max_abs"] < 1e-2
        assert row["num_calls"] == int(row["name"].rsplit("-", 1)[1])
        assert row["threads"] == 1
    printed = capsys.readouterr().out
    assert "dp-ddpm-100" in printed
    assert f"written: {output}" in printed


def test_each_thread_count_is_measured_in_its_own_process(tmp_path: Path) -> None:
    rows = bench(
        tmp_path / "latency.json",
        *("pusht-sdp", "engines=[eager]", "calls=[1]", "threads=[1,2]", "steps=3"),
    )
    assert [(row["name"], row["threads"]) for row in rows] == [("sdp-1", 1), ("sdp-1", 2)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["steps=3"], "needs at least one checkpoint, e.g. hotloop bench pusht-sdp"),
        (["pusht-sdp", "stepz=3"], "unknown key 'stepz'; did you mean steps?"),
        (["pusht-sdp", "threads=[0]"], "threads must be positive numbers, got [0]"),
        (
            ["pusht-dp", "engines=[eager]", "sampling.prefix_guidance=vjp", "calls=[2]"],
            "leave sampling.prefix_guidance out",
        ),
    ],
)
def test_wrong_arguments_are_one_message(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *arguments]) == ExitCode.USAGE
    assert message in capsys.readouterr().err
