"""What ``engine=auto`` has found is found once: for one machine, checkpoint and choice."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import SPEC, tiny_model

from hotloop.policies import fastest
from hotloop.policies.checkpoint import Checkpoint
from hotloop.policies.diffusion.config import StreamingSampling
from hotloop.policies.fastest import Choice
from hotloop.policies.programs.engines.engine import AUTO, engine_name, tried_engines
from hotloop.policies.remembered import RememberedChoice, fingerprint

STREAMING = StreamingSampling(num_execute=2, calls_per_step=1)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where choices are kept."""
    monkeypatch.setenv("HOTLOOP_CACHE", str(tmp_path))
    return tmp_path / "engines"


@pytest.fixture
def streaming() -> Checkpoint:
    return Checkpoint("sdp", tiny_model(), SPEC, STREAMING, {})


class Trial:
    """Stands in for `run_trial`: always finds eager, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []

    def __call__(
        self, build: Callable[[str], Any], engines: tuple[str, ...], seconds: float
    ) -> tuple[Any, Choice]:
        self.asked.append(engines)
        return build(engines[0]), Choice(engines[0], {engines[0]: 1.0, "onnx": 2.0})


@pytest.fixture
def trial(monkeypatch: pytest.MonkeyPatch) -> Trial:
    found = Trial()
    monkeypatch.setattr(fastest, "run_trial", found)
    return found


def test_it_is_tried_once_per_machine_checkpoint_and_choice(
    streaming: Checkpoint, trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert streaming.policy(engine=AUTO).engine == streaming.policy(engine=AUTO).engine == "eager"
    assert len(trial.asked) == 1
    streaming.policy({"calls_per_step": 2}, engine=AUTO)
    assert len(trial.asked) == 2, "other sampling choices"
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    streaming.policy(engine=AUTO)
    assert len(trial.asked) == 3, "other threads"
    trained = replace(streaming, model=tiny_model())
    assert fingerprint(trained.model) == fingerprint(streaming.model)
    next(iter(trained.model.network.parameters())).data += 0.1
    trained.policy(engine=AUTO)
    assert len(trial.asked) == 4, "other weights"


@pytest.mark.parametrize("damage", [
    b"", b"{", b"[]", b'{"version": 1}', b"\xff\xfe\x00",
    b'{"version": 2, "asked": {}, "found": {"engine": "eager"}}',
    b'{"version": 1, "asked": {}, "found": {"engine": "__import__(\'os\')"}}',
    b'{"version": 1, "asked": {}, "found": {"engine": ["eager"]}}',
])  # fmt: skip
def test_a_damaged_memory_is_no_memory(
    streaming: Checkpoint, trial: Trial, own_cache: Path, damage: bytes
) -> None:
    streaming.policy(engine=AUTO)
    (path,) = own_cache.iterdir()
    path.write_bytes(damage)
    streaming.policy(engine=AUTO)
    assert len(trial.asked) == 2
    assert json.loads(path.read_text())["found"]["engine"] == "eager", "and is mended"


def test_a_remembered_engine_that_no_longer_runs_is_found_anew(
    streaming: Checkpoint, trial: Trial, own_cache: Path
) -> None:
    streaming.policy(engine=AUTO)
    (path,) = own_cache.iterdir()
    content = json.loads(path.read_text())
    content["found"]["engine"] = "cuda-graph"
    path.write_text(json.dumps(content))
    if not torch.cuda.is_available():
        assert streaming.policy(engine=AUTO).engine == "eager"
        assert len(trial.asked) == 2


def test_without_a_place_to_remember_it_works_all_the_same(
    streaming: Checkpoint, trial: Trial, own_cache: Path
) -> None:
    own_cache.write_text("a file where the folder should be")
    assert streaming.policy(engine=AUTO).engine == "eager"
    assert len(trial.asked) == 1


def test_a_model_that_lerobot_runs_is_not_remembered() -> None:
    assert RememberedChoice.of("lerobot", object(), STREAMING, AUTO) is None


def test_a_precision_narrows_the_choice(streaming: Checkpoint, trial: Trial) -> None:
    streaming.policy(engine=AUTO, precision="float32")
    assert engine_name(AUTO, "bf16") == "auto-bf16" == engine_name("auto-bf16", "float32")
    with pytest.raises(ValueError, match="precision must be one of"):
        engine_name(AUTO, "int8")
    streaming.policy(engine="auto-bf16")
    assert trial.asked[1] == tried_engines("bf16", "cpu")
