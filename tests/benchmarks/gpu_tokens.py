"""Token decoders on hosts of the published sizes: parts of `benchmark_gpu.py`.

The layouts of LLaVA-1.5 7B and SmolVLM 0.5B with random weights in bfloat16, made on the device, an
instruction of about thirty tokens and chunks of 56 tokens: 8 actions of 7 numbers. Whole control
steps from picture and instruction to actions, but the fused forward, whose prompt is ready. Speed-
ups are over greedy decoding on the same engine, which is the honest comparison; greedy decoding of
the eager engine has a row of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from gpu_rows import (
    CallTimer,
    Contender,
    Setting,
    Timer,
    bandwidth,
    measure,
    num_parameters,
    parity,
    timed_policy,
)
from vla_decoders import DECODINGS, LIMIT, fused_forward

from hotloop.decoding import ActionSpec, Observation
from hotloop.decoding.instruction import INSTRUCTION_KEY, encode_instruction
from hotloop.policies.checkpoint import Checkpoint
from hotloop.policies.vla import BinStatistics, TinyHost, VlaConfig, VlaModel
from hotloop.policies.vla.build import NUM_BLOCK_IDS
from hotloop.policies.vla.decoding_config import TokenDecodingConfig
from hotloop.policies.vla.host import host_from_config
from hotloop.policies.vla.text import train_text_tokenizer
from hotloop.policies.vla.tokenizer import NUM_BINS

NUM_ACTIONS, ACTION_DIM = 8, 7
SPEC = ActionSpec(tuple("xyzabcg"), (-1.0,) * ACTION_DIM, (1.0,) * ACTION_DIM, dt=0.1)
CAMERA = "observation.images.front"
# A tokenizer that was trained on one letter leaves every letter a token of its own.
LETTERS, INSTRUCTION = "a", "push the blue button to the end"
LLAVA_7B: dict[str, Any] = {
    "model_type": "llava", "image_token_index": 32000, "tie_word_embeddings": False,
    "vision_feature_layer": -2, "vision_feature_select_strategy": "default",
    "vision_config": {
        "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096,
        "num_hidden_layers": 24, "num_attention_heads": 16, "image_size": 336, "patch_size": 14,
        "projection_dim": 768,
    },
    "text_config": {
        "model_type": "llama", "vocab_size": 32064, "hidden_size": 4096,
        "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "max_position_embeddings": 4096, "pad_token_id": 0,
        "tie_word_embeddings": False,
    },
}  # fmt: skip
SMOLVLM_500M: dict[str, Any] = {
    "model_type": "idefics3", "image_token_id": 49190, "scale_factor": 4, "pad_token_id": 2,
    "tie_word_embeddings": False,
    "vision_config": {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
        "num_attention_heads": 12, "image_size": 512, "patch_size": 16,
    },
    "text_config": {
        "model_type": "llama", "vocab_size": 49280, "hidden_size": 960,
        "intermediate_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 15,
        "num_key_value_heads": 5, "max_position_embeddings": 8192, "pad_token_id": 2,
        "rope_theta": 100000.0, "tie_word_embeddings": False,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Layout:
    """A host and what is wanted of its decoders.

    Attributes:
        name: What it is called in rows.
        host: Configuration of `transformers`.
        targets: Longest time per chunk on a CUDA graph, by decoder [ms].
        family: Of its miniature.
    """

    name: str
    host: dict[str, Any]
    targets: dict[str, float] = field(default_factory=dict)
    family: str = "llava"


GREEDY, EXIT_4, EXIT_2 = "greedy", "sigma 4, warm", "sigma 2, warm"
LAYOUTS = {
    "vla-7b": Layout(
        "LLaVA-1.5 7B", LLAVA_7B, {GREEDY: 420, EXIT_4: 50, EXIT_2: 32, LIMIT: 24}
    ),
    "vla-500m": Layout("SmolVLM 0.5B", SMOLVLM_500M, {EXIT_4: 15}, "idefics3"),
}  # fmt: skip


def run_tokens(setting: Setting) -> None:
    """The part that is named like a layout: every decoder on CUDA graphs, greedy eager too."""
    layout = LAYOUTS[setting.part]
    dtype = torch.float32 if setting.tiny else torch.bfloat16
    model = random_model(layout, dtype, setting)
    frames = random_frames(model)
    language = num_parameters(model.host.model.get_decoder())
    floor = 1e3 * language * dtype.itemsize / bandwidth(setting)
    checkpoint = Checkpoint("vla", model, SPEC, TokenDecodingConfig(NUM_ACTIONS), {})
    facts = {"network": layout.name, "precision": str(dtype).removeprefix("torch.")}
    length = model.prompt(frames[0]).ids.shape[1]

    def contender(decoding: str, engine: str = "graph") -> Contender:
        graph = engine == "graph"
        name = setting.graph if graph else "eager"
        num_reads = NUM_ACTIONS * ACTION_DIM if decoding == GREEDY else _exit_of(decoding)
        return Contender(
            {**facts, "decoding": decoding, "engine": engine},
            partial(_fused, checkpoint, name, frames)
            if decoding == LIMIT
            else partial(_decoder, checkpoint, decoding, name, frames),
            partial(_told, model, length, decoding),
            target_ms=layout.targets.get(decoding) if graph else None,
            floor_ms=num_reads * floor,
        )

    graph = [contender(decoding) for decoding in (GREEDY, EXIT_4, EXIT_2, LIMIT)]
    measure(setting, [*graph, contender(GREEDY, "eager")])


def random_model(layout: Layout, dtype: torch.dtype, setting: Setting) -> VlaModel:
    """The layout with random weights on the device, or a miniature of it."""
    text = train_text_tokenizer([LETTERS])
    config = dict(layout.host)
    if setting.tiny:
        sizes = TinyHost(layout.family, 16, 4, 2, 16, 1, 32, 2, 2)
        config = sizes.config(512 + NUM_BLOCK_IDS)
        first = 512
    else:
        first = config["text_config"]["vocab_size"]
        whole = {**config["text_config"], "vocab_size": first + NUM_BLOCK_IDS}
        config["text_config"] = whole
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(setting.device), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            weights = host_from_config(config, first, NUM_BINS).model.to(dtype)
    finally:
        torch.set_default_dtype(default)
    bins = BinStatistics((-1.0,) * ACTION_DIM, (1.0,) * ACTION_DIM, (False,) * ACTION_DIM)
    vla = VlaConfig(
        host=config, text_tokenizer=text, num_actions=NUM_ACTIONS, actions=bins,
        cameras=(CAMERA,), state_key="", state=None, max_text_tokens=64, first_action_id=first,
    )  # fmt: skip
    return VlaModel(vla, weights).to(setting.device).eval().requires_grad_(False)


def random_frames(model: VlaModel) -> list[dict[str, np.ndarray]]:
    """Many frames of one row, of four pictures in turns."""
    rng, size = np.random.default_rng(0), model.host.image_size
    pictures = [rng.integers(256, size=(1, size, size, 3), dtype=np.uint8) for _ in range(4)]
    text = encode_instruction(INSTRUCTION)[None].astype(np.float32)
    return [
        {CAMERA: pictures[step // NUM_ACTIONS % 4], INSTRUCTION_KEY: text}
        for step in range(100 * NUM_ACTIONS)
    ]


def _decoder(
    checkpoint: Checkpoint, decoding: str, engine: str, frames: list[dict[str, np.ndarray]]
) -> Timer:
    policy = checkpoint.policy(DECODINGS[decoding], engine)
    return timed_policy(policy, episodes=[frames], calls=lambda: int(policy.decoded.num_calls[0]))


def _fused(checkpoint: Checkpoint, engine: str, frames: list[dict[str, np.ndarray]]) -> Timer:
    policy = checkpoint.policy(DECODINGS["sigma 1, warm"], engine)
    frame = {key: np.float32(value)[:, None] for key, value in frames[0].items()}
    observation = Observation(frame, np.zeros(1, np.int64), np.zeros(1, np.int64))
    timer = FusedTimer(partial(fused_forward, checkpoint.model, policy.token_model, observation))
    timer.policy = policy
    return timer


class FusedTimer(CallTimer):
    """Takes the time that a call says itself [s], without what it prepares."""

    policy: Any

    def run_block(self, num_plans: int) -> None:
        """See `Timer`."""
        self.plan_blocks.append([1e3 * self._call() for _ in range(min(num_plans, 5))])


def _exit_of(decoding: str) -> int:
    """Forwards that read the language model's weights."""
    return 1 if decoding == LIMIT else int(DECODINGS[decoding]["max_calls"])


def _told(model: VlaModel, length: int, decoding: str, timer: Any) -> dict[str, Any]:
    facts = {
        "parameters": num_parameters(model),
        "prompt_tokens": length,
        "tokens_per_chunk": model.action_tokenizer.num_tokens,
        **parity(timer),
    }
    if decoding != LIMIT:
        facts["mean_forwards"] = float(np.mean(timer.num_calls))
        median = float(np.median(timer.plan_ms))
        facts["actions_per_second"] = 1e3 * NUM_ACTIONS / median
    return facts
