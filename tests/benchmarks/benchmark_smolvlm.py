"""SmolVLM-256M's configuration with random weights: greedy against two Jacobi forwards.

python tests/benchmarks/benchmark_smolvlm.py OUT.json
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hotloop.decoding.instruction import INSTRUCTION_KEY, encode_instruction
from hotloop.decoding.jacobi import ExitRule, jacobi
from hotloop.decoding.plumbing.files import write_text
from hotloop.decoding.token_model import greedy_tokens
from hotloop.policies.vla import BinStatistics, VlaConfig, VlaModel
from hotloop.policies.vla.session import CachedModel
from hotloop.policies.vla.text import train_text_tokenizer
from hotloop.train.measure.provenance import measurement_header


def smolvlm_256m() -> VlaModel:
    """SmolVLM-256M's published configuration with random weights and an action block."""
    vision = {
        "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
        "num_attention_heads": 12, "image_size": 512, "patch_size": 16,
    }  # fmt: skip
    text = {
        "model_type": "llama", "vocab_size": 49280 + 320, "hidden_size": 576,
        "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3, "max_position_embeddings": 8192, "pad_token_id": 2,
        "rope_theta": 100000.0, "tie_word_embeddings": False,
    }  # fmt: skip
    host = {
        "model_type": "idefics3", "image_token_id": 49190, "scale_factor": 4,
        "pad_token_id": 2, "tie_word_embeddings": False, "vision_config": vision,
        "text_config": text,
    }  # fmt: skip
    bins = BinStatistics((-1.0,) * 7, (1.0,) * 7, (False,) * 7)
    config = VlaConfig(
        host=host, text_tokenizer=train_text_tokenizer(["open the drawer"]), num_actions=5,
        actions=bins, cameras=("observation.images.front",), state_key="", state=None,
        max_text_tokens=64, first_action_id=49280,
    )  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VlaModel(config).eval().requires_grad_(False)


@torch.inference_mode()
def measure_smolvlm(repeats: int = 3) -> dict[str, Any]:
    """One chunk of 35 tokens: greedy, and two Jacobi forwards after the prompt."""
    model = smolvlm_256m()
    frames = {
        "observation.images.front": np.random.default_rng(0).integers(
            256, size=(1, 512, 512, 3), dtype=np.uint8
        ),
        INSTRUCTION_KEY: encode_instruction("open the drawer")[None],
    }
    prompt, begin = model.prompt(frames), model.begin(1)
    guess = torch.randint(256, (1, 35), generator=torch.Generator().manual_seed(0))
    times: dict[str, list[float]] = {"prompt": [], "greedy": [], "two forwards": [], "fused": []}
    for _ in range(repeats):
        warm = CachedModel(model.host, prompt)
        times["prompt"].append(seconds(warm.read_prompt))
        times["greedy"].append(seconds(partial(greedy_tokens, warm, begin, 35)))
        times["two forwards"].append(seconds(partial(jacobi, warm, begin, guess, ExitRule(2))))
        fused = CachedModel(model.host, prompt)
        times["fused"].append(seconds(partial(jacobi, fused, begin, guess, ExitRule(1))))
    best = {name: 1e3 * min(values) for name, values in times.items()}
    greedy, two = best["prompt"] + best["greedy"], best["prompt"] + best["two forwards"]
    return {
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "prompt_tokens": prompt.ids.shape[1],
        "n": repeats,
        "best_ms": best,
        "speed_up_with_prompt": greedy / two,
        "speed_up_of_decoding": best["greedy"] / best["two forwards"],
        "speed_up_of_one_fused_forward": greedy / best["fused"],
    }


def seconds(call: Any) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def main() -> None:
    torch.set_num_threads(1)
    header = measurement_header(shlex.join(["python", *sys.argv]))
    result = measure_smolvlm()
    write_text(
        Path(sys.argv[1]), json.dumps({**header, "threads": 1, "rows": result}, indent=1) + "\n"
    )
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
