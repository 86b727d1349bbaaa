"""precision= of token policies: fewer digits in the passes, and how many tokens stay the same."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_command_bench_vla import Table
from test_token_engine import check_same, on_static_tensors
from tiny_vla import IMAGE, SPEC, STATE_KEY, frames, prompt_of, random_blocks, tiny_model

from hotloop.decoding import Observation
from hotloop.decoding.instruction import INSTRUCTION_KEY
from hotloop.decoding.jacobi import ExitRule, jacobi
from hotloop.decoding.token_model import greedy_tokens
from hotloop.envs.statistics import read_json
from hotloop.envs.task import Task
from hotloop.policies.checkpoint import Checkpoint, save_checkpoint
from hotloop.policies.place import rounded
from hotloop.policies.vla import TokenDecodingConfig, VlaModel, VlaPolicy
from hotloop.policies.vla.precision import TokenComparison, split_engine
from hotloop.policies.vla.session import CachedModel
from hotloop.train import evaluation
from hotloop.train.cli import main
from hotloop.train.measure import recorded_frames

CHOICES = TokenDecodingConfig(2, method="greedy")
TABLE = Task(
    "table", SPEC, {IMAGE: (16, 16, 3), STATE_KEY: (2,), INSTRUCTION_KEY: (128,)}, 14, "none", Table
)


def planned(policy: VlaPolicy) -> np.ndarray:
    """Tokens of three rows from the beginning of an episode."""
    values = {key: value[:, None] for key, value in frames(policy.stored, 3).items()}
    policy.reset(np.arange(3))
    policy.plan(Observation(values, np.zeros(3, np.int64), np.arange(3)), np.zeros(3, np.int64))
    assert policy.decoded is not None
    return policy.decoded.tokens.numpy()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_weights_and_passes_have_fewer_digits_and_the_stored_ones_keep_theirs(
    precision: str,
) -> None:
    model = tiny_model(layers=1)
    exact = planned(VlaPolicy(model, SPEC, CHOICES))
    policy = VlaPolicy(model, SPEC, CHOICES, f"eager-{precision}")
    policy.comparison = TokenComparison(policy, limit=3)
    found = planned(policy)
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}[precision]
    assert {one.dtype for one in policy.model.parameters()} == {dtype}
    assert policy.model.host.model.get_decoder().rotary_emb.inv_freq.dtype == torch.float32
    assert {one.dtype for one in model.parameters()} == {torch.float32}
    # Random logits nearly tie, so that some tokens flip, and with them those behind.
    assert 1e-3 < policy.parity < 0.5
    assert policy.comparison.share == (found == exact).mean() > 0.5
    assert policy.comparison.is_over
    np.testing.assert_array_equal(planned(VlaPolicy(model, SPEC, CHOICES)), exact)
    assert policy.comparison.num_tokens == exact.size, "nothing is compared beyond the limit"


def test_what_an_exact_policy_decodes_is_counted_as_equal() -> None:
    policy = VlaPolicy(tiny_model(layers=1), SPEC, CHOICES)
    policy.comparison = comparison = TokenComparison(policy)
    assert np.isnan(comparison.share)
    planned(policy)
    assert comparison.share == 1 and policy.parity == 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_recorded_passes_run_in_the_type_of_their_weights(dtype: torch.dtype) -> None:
    model = rounded(tiny_model(layers=1), dtype)
    assert isinstance(model, VlaModel)
    prompt, guess, begin = prompt_of(model, 1), random_blocks(model, 1), model.begin(1)
    recorded = on_static_tensors(model).token_model(prompt)
    none = torch.zeros(1, dtype=torch.int64)
    found = [recorded.greedy(), recorded.jacobi(guess, ExitRule(3), none, committed=False)]
    reference = CachedModel(model.host, prompt)
    expected = [
        greedy_tokens(reference, begin, guess.shape[1]),
        jacobi(reference, begin, guess, ExitRule(3)),
    ]
    for one, other in zip(found, expected, strict=True):
        # The two round sums in different order.
        assert (one.tokens == other.tokens).double().mean() >= 0.5
        assert torch.equal(one.num_calls, other.num_calls)
    # With all digits they are the same.
    model = model.double()
    prompt = prompt_of(model, 1)
    check_same(
        on_static_tensors(model).token_model(prompt).greedy(),
        greedy_tokens(CachedModel(model.host, prompt), begin, guess.shape[1]),
    )


def test_numbers_beyond_a_types_range_are_refused() -> None:
    model = tiny_model(layers=1)
    head = model.host.model.get_output_embeddings()
    head.weight.data *= 6e4 / head.weight.abs().max()
    with pytest.raises(ValueError, match=r"fp16 cannot hold .*choose precision=bf16"):
        VlaPolicy(model, SPEC, CHOICES, "eager-fp16")
    assert VlaPolicy(model, SPEC, CHOICES, "eager-bf16").parity > 0


def test_precisions_belong_to_engines_and_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    assert split_engine("cuda-graph-bf16") == ("cuda-graph", "bf16")
    assert split_engine("openvino-bf16") == ("openvino-bf16", "float32")
    checkpoint = Checkpoint("vla", tiny_model(layers=1), SPEC, CHOICES, {})
    with pytest.raises(ValueError, match="'onnx' has no precision bf16"):
        checkpoint.policy(engine="onnx", precision="bf16")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for engine in ("eager", "cuda-graph"):
        with pytest.raises(ValueError, match="NVIDIA GPU"):
            checkpoint.policy(engine=engine, precision="tf32")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(ValueError, match="weights are on 'cpu'; choose device=cuda, or precision"):
        checkpoint.policy(precision="tf32")
    with pytest.raises(ValueError, match="'cuda-graph' runs token policies whose weights are on a"):
        checkpoint.policy(engine="cuda-graph", precision="bf16")


def test_bench_and_eval_say_how_many_tokens_are_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(recorded_frames, "make_task", lambda _: TABLE)
    monkeypatch.setattr(evaluation, "make_task", lambda _: TABLE)
    stored = TokenDecodingConfig(4, guess="previous", max_calls=1)
    name = str(tmp_path / "vla")
    model = tiny_model(layers=1)
    save_checkpoint(tmp_path / "vla", Checkpoint("vla", model, SPEC, stored, {"task": "table"}))
    bench = f"bench {name} engines=[eager] calls=[2] steps=2 precision=bf16"
    assert main(bench.split()) == 0
    line = next(one for one in capsys.readouterr().out.splitlines() if "eager-bf16" in one)
    assert line.count("%") == 2, "overhead and equal tokens"
    score = f"eval {name} precision=bf16 eval.n_episodes=2 output_dir={tmp_path / 'out'}"
    assert main(score.split()) == 0
    assert "tokens are those of the stored weights' own precision" in capsys.readouterr().out
    run = read_json(tmp_path / "out" / "eval_info.json").run
    assert 0.5 < run["equal_tokens"] <= 1
    # Two episodes of 14 steps, 4 plans each.
    assert run["compared_tokens"] == 2 * 4 * 12
