"""The benchmark of a bare GPU machine, in miniature on the CPU: every part, and what travels."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"


def test_every_part_runs_in_miniature_and_a_broken_one_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    benchmark = importlib.import_module("benchmark_gpu")
    output = tmp_path / "gpu.json"
    broken = benchmark.Part("gpu_networks:missing", 1.0)
    monkeypatch.setattr(benchmark, "PARTS", {"broken": broken, **benchmark.PARTS})
    monkeypatch.setattr(sys, "argv", ["benchmark_gpu.py", str(output), "--tiny"])
    benchmark.main()
    written = json.loads(output.read_text())
    assert written["device"] == "cpu" and written["versions"]["torch"]
    rows = written["rows"]
    assert [row["part"] for row in rows if "failed" in row] == ["broken"]
    names = {row.get("policy") or row.get("decoding") or row.get("loop") for row in rows[1:]}
    tokens = {"greedy", "sigma 4, warm", "sigma 2, warm", "one fused forward"}
    assert names == {"sdp-1", "dp-4", "dp-1", "hotloop", "bare"} | tokens
    for row in rows[1:]:
        assert row["median_ms"] > 0 and row["n"] >= 2 and row["speed_up"] > 0
    by_name = {(row["part"], row.get("decoding"), row.get("engine")): row for row in rows}
    assert by_name["vla-7b", "greedy", "graph"]["mean_forwards"] == 56
    assert by_name["vla-7b", "sigma 4, warm", "graph"]["mean_forwards"] == 4
    assert by_name["vla-7b", "sigma 4, warm", "graph"]["target_ms"] == 50
    printed = capsys.readouterr().out
    assert "failed: AttributeError" in printed and "U-Net 256-512-1024, sdp-1, graph" in printed


def test_what_travels_is_complete_and_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    packing = importlib.import_module("gpu_pack")
    command = packing.pack(tmp_path / "pack")
    assert command.startswith("cd pack && PYTHONPATH=site python benchmarks/benchmark_gpu.py")
    for name in ("site/hotloop/train/config/yaml/train.yaml", "benchmarks/gpu_rows.py"):
        assert (tmp_path / "pack" / name).is_file(), name
    assert (tmp_path / "pack/packages/hydra/__init__.py").is_file()
    files = [path for path in (tmp_path / "pack").rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < packing.LARGEST
    assert not any(path.suffix in (".safetensors", ".so") for path in files)
    with pytest.raises(FileExistsError, match="choose a new folder"):
        packing.pack(tmp_path / "pack")
    with pytest.raises(ValueError, match=r"numpy cannot be carried: .*compiled"):
        packing.copy_distribution("numpy", tmp_path / "other")
