"""Decoders of a vision-language policy on recorded observations: forwards, times, agreement.

    python tests/benchmarks/benchmark_vla.py chunks OUT.json DATASET TEACHER [STUDENT ...]
    python tests/benchmarks/benchmark_vla.py smolvlm OUT.json

`chunks` decodes the same observations, of the dataset's last episodes, with every decoder of every
checkpoint, in turns within one process, so that a machine's drift meets all of them alike. Warm
starts take the chunk that the same decoder gave out one chunk earlier in the episode. `smolvlm`
times the configuration of SmolVLM-256M with random weights.
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

from hotloop.decoding import Observation
from hotloop.decoding.jacobi import ExitRule, jacobi
from hotloop.decoding.token_model import greedy_tokens
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.policies.vla import BinStatistics, VlaConfig, VlaModel
from hotloop.policies.vla.session import CachedModel
from hotloop.policies.vla.text import train_text_tokenizer
from hotloop.train.data.formats import read_episodes
from hotloop.train.files import write_text
from hotloop.train.provenance import measurement_header

NUM_EPISODES = 12
DECODINGS: dict[str, dict[str, Any]] = {
    "greedy": {"method": "greedy"},
    "jacobi": {"method": "jacobi", "guess": "random"},
    "committed": {"method": "committed", "guess": "random"},
    "committed, warm": {"method": "committed", "guess": "previous"},
    "sigma 4, warm": {"method": "committed", "guess": "previous", "max_forwards": 4},
    "sigma 2, warm": {"method": "committed", "guess": "previous", "max_forwards": 2},
    "sigma 1, warm": {"method": "committed", "guess": "previous", "max_forwards": 1},
    "epsilon 0.05, warm": {"method": "committed", "guess": "previous", "max_move": 0.05},
}


def observations(dataset: str, model: VlaModel) -> list[list[Observation]]:
    """Observations of the last episodes, one per chunk."""
    episodes, found = read_episodes(dataset, everything=True), []
    for start, end in list(zip(episodes.episode_starts, episodes.episode_ends, strict=True))[
        -NUM_EPISODES:
    ]:
        found.append(
            [
                Observation(
                    {
                        key: episodes.observations[key][step : step + 1][None]
                        for key in model.observation_shapes
                    },
                    np.array([step - start]),
                    np.array([0]),
                )
                for step in range(start, end, model.config.num_actions)
            ]
        )
    return found


def measure_chunks(dataset: str, names: list[str]) -> list[dict[str, Any]]:
    """One row per checkpoint and decoder."""
    rows: dict[tuple[str, str], dict[str, list[Any]]] = {}
    checkpoints = {name: load_checkpoint(name) for name in names}
    episodes = observations(dataset, checkpoints[names[0]].model)
    policies = {
        (name, label): checkpoint.policy(choices)
        for name, checkpoint in checkpoints.items()
        for label, choices in DECODINGS.items()
    }
    for number, episode in enumerate(episodes):
        for policy in policies.values():
            policy.reset(np.array([number]))
        for observation in episode:
            for key, policy in policies.items():
                began = time.perf_counter()
                plan = policy.plan(observation, observation.step)
                seconds = time.perf_counter() - began
                row = rows.setdefault(key, {"ms": [], "forwards": [], "actions": []})
                row["ms"].append(1e3 * seconds)
                row["forwards"].append(int(policy.decoded.num_forwards[0]))
                row["actions"].append(plan.actions[0])
    return [summary(name, label, row, rows[name, "greedy"]) for (name, label), row in rows.items()]


def summary(
    name: str, label: str, row: dict[str, list[Any]], greedy: dict[str, list[Any]]
) -> dict[str, Any]:
    actions, reference = np.stack(row["actions"]), np.stack(greedy["actions"])
    median = float(np.median(row["ms"]))
    return {
        "checkpoint": Path(name).name,
        "decoding": label,
        "n": len(row["ms"]),
        "mean_forwards": float(np.mean(row["forwards"])),
        "median_ms": median,
        "p99_ms": float(np.quantile(row["ms"], 0.99)),
        "speed_up": float(np.median(greedy["ms"])) / median,
        "tokens_per_second": 1e3 * actions[0].size / median,
        "actions_per_second": 1e3 * actions.shape[1] / median,
        "chunks_equal_to_greedy": float((actions == reference).all(axis=(1, 2)).mean()),
        "mean_distance_to_greedy": float(np.abs(actions - reference).mean()),
    }


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
    from hotloop.decoding.instruction import INSTRUCTION_KEY, encode_instruction

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
    what, output, *names = sys.argv[1:]
    header = measurement_header(shlex.join(sys.argv))
    if what == "smolvlm":
        result: Any = measure_smolvlm()
    else:
        result = measure_chunks(names[0], names[1:])
    write_text(Path(output), json.dumps({**header, "threads": 1, "rows": result}, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
