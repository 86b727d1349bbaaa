"""Exported policies in other formats, and in C++."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_joints import save_tiny

from hotloop.decoding import Executor
from hotloop.decoding.exported import ExportedPolicy
from hotloop.policies import load_checkpoint
from hotloop.policies.checkpoint import Checkpoint
from hotloop.policies.export.write import export_policy

ROOT = Path(__file__).parents[1]
STATE = "observation.state"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("checkpoint")
    return load_checkpoint(save_tiny(folder / "run", "sdp", calls_per_step=1))


@pytest.fixture(scope="module")
def openvino(checkpoint, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("openvino") / "out"
    export_policy(checkpoint, folder, "openvino", num_steps=8)
    return folder


def test_openvino_acts_as_its_engine_does(checkpoint, openvino) -> None:
    executors = [
        Executor(policy)
        for policy in (checkpoint.policy(engine="openvino"), ExportedPolicy(openvino))
    ]
    generator = np.random.default_rng(0)
    for executor in executors:
        executor.reset([5])
    for _ in range(20):
        frame = {STATE: generator.uniform(-0.5, 0.5, (1, 6)).astype(np.float32)}
        found, expected = (executor.act(frame) for executor in executors)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def golden(folder: Path, name: str, side: str) -> dict[str, np.ndarray]:
    values = json.loads((folder / "golden.json").read_text())[name][side]
    return {key: np.array(value, np.float32) for key, value in values.items()}


def test_torch_export_computes_what_golden_says(checkpoint, tmp_path) -> None:
    export_policy(checkpoint, tmp_path / "out", "torch-export")
    about = json.loads((tmp_path / "out" / "policy.json").read_text())
    for name, graph in about["graphs"].items():
        inputs = golden(tmp_path / "out", name, "inputs")
        module = torch.export.load(tmp_path / "out" / graph["file"]).module()
        results = module(*(torch.from_numpy(inputs[one["name"]]) for one in graph["inputs"]))
        for port, result in zip(graph["outputs"], results, strict=True):
            expected = golden(tmp_path / "out", name, "outputs")[port["name"]]
            np.testing.assert_allclose(result.numpy(), expected, rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match="holds graphs for torch-export, which hotloop does not"):
        ExportedPolicy(tmp_path / "out")


TRTEXEC = """#!/bin/sh
for word in "$@"; do case "$word" in --onnx=*) test -f "${word#--onnx=}" || exit 3;;
--saveEngine=*) echo "$*" > "${word#--saveEngine=}";; esac; done
exit %d
"""


def test_tensorrt_is_built_where_it_is_installed(checkpoint, tmp_path, monkeypatch) -> None:
    """A stand-in for trtexec: what it is told, and what follows when it fails."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin" / "trtexec"
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    for code in (0, 1):
        program.write_text(TRTEXEC % code)
        program.chmod(0o755)
        if code:
            with pytest.raises(ValueError, match="trtexec cannot build an engine"):
                export_policy(checkpoint, tmp_path / "failed", "tensorrt", num_steps=4)
            assert not (tmp_path / "failed").exists()
            continue
        export_policy(checkpoint, tmp_path / "with", "tensorrt", num_steps=4)
        script = (tmp_path / "with" / "build_tensorrt.sh").read_text()
        assert "trtexec --onnx=step.onnx --saveEngine=step.plan" in script
        told = (tmp_path / "with" / "step.plan").read_text()
        assert "--minShapes=observation:1x2x6,x:1x9x6,fresh:1x2x6" in told


def test_cpp_computes_what_golden_says_and_acts(openvino, tmp_path) -> None:
    if shutil.which("g++") is None:
        pytest.skip("needs a C++ compiler")
    if not Path("/usr/include/nlohmann/json.hpp").is_file():
        pytest.skip("needs nlohmann-json (Debian: nlohmann-json3-dev)")
    home = Path(find_spec("openvino").origin).parent
    (library,) = (home / "libs").glob("libopenvino.so*")
    program = tmp_path / "hotloop_policy"
    subprocess.run(
        [
            "g++", "-std=c++17", "-O0", f"-I{home / 'include'}",
            str(ROOT / "real_robot/integrations/cpp/main.cpp"), "-o", str(program),
            str(library), f"-Wl,-rpath,{home / 'libs'}",
        ],
        check=True,
    )  # fmt: skip
    said = subprocess.run([program, openvino, "20"], capture_output=True, text=True, check=True)
    lines = said.stdout.splitlines()
    differences = [float(line.split()[-1]) for line in lines if "golden.json" in line]
    assert len(differences) == 2 and max(differences) < 1e-5
    about = json.loads((openvino / "policy.json").read_text())["action"]
    actions = np.array([line.split()[2:] for line in lines if line.startswith("action")], float)
    assert actions.shape == (3, 6) and np.ptp(actions, axis=0).min() > 0
    assert (np.array(about["low"]) - 1e-6 <= actions).all()
    assert (actions <= np.array(about["high"]) + 1e-6).all()
    failed = subprocess.run([program, tmp_path], capture_output=True, text=True, check=False)
    assert failed.returncode == 1 and "policy.json cannot be read" in failed.stderr
