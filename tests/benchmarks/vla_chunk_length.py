"""Speed-up of parallel decoding against the number of actions that are decoded at a time."""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from result_rows import Results
from vla_decoders import LIMIT, fused_forward, observations

from hotloop.decoding import Observation
from hotloop.decoding.jacobi import ExitRule, jacobi_committed
from hotloop.decoding.token_guesses import random_tokens, shifted_chunk
from hotloop.decoding.token_model import greedy_tokens
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.policies.vla import VlaModel

LENGTHS = (1, 3, 5, 8)
RULES: dict[str, ExitRule | None] = {
    "greedy": None,
    "committed": ExitRule(),
    "sigma 2": ExitRule(2),
    "sigma 1": ExitRule(1),
}
MAX_CHUNKS = 100


def run_length(results: Results, args: argparse.Namespace) -> None:
    """One row per chunk length and decoder of the last checkpoint, and a plot of all of them."""
    name = args.checkpoints[-1]
    model = load_checkpoint(name).model
    for length in (one for one in LENGTHS if one <= model.config.num_actions):
        common = {"part": "length", "checkpoint": Path(name).name, "num_actions": length}
        keys = {label: {**common, "decoding": label} for label in (*RULES, LIMIT)}
        if all(results.has(key) for key in keys.values()):
            continue
        episodes = observations(args.dataset, model, args.episodes, length)
        for label, values in measure(model, episodes, length).items():
            if not results.has(keys[label]):
                results.add(keys[label], values)
    plot(results, Path(name).name, results.path.with_suffix(".png"))


@torch.inference_mode()
def measure(
    model: VlaModel, episodes: list[list[Observation]], length: int
) -> dict[str, dict[str, Any]]:
    """Times of each decoder [ms]; they take turns, and start from what they decoded before."""
    num_tokens = model.action_tokenizer.tokens_for(length)
    times: dict[str, list[float]] = {label: [] for label in (*RULES, LIMIT)}
    forwards: dict[str, list[int]] = {label: [] for label in RULES}
    for number, episode in enumerate(episodes):
        guess = random_tokens(np.random.default_rng(number), num_tokens, 256)
        guesses = dict.fromkeys(RULES, guess)
        for observation in episode:
            if len(times[LIMIT]) >= MAX_CHUNKS:
                break
            uncached = partial(model.token_model, cached=False)
            times[LIMIT].append(1e3 * fused_forward(model, uncached, observation, num_tokens))
            for label, rule in RULES.items():
                began = time.perf_counter()
                decoded = decode_start(model, observation, guesses[label], rule)
                times[label].append(1e3 * (time.perf_counter() - began))
                forwards[label].append(int(decoded.num_calls[0]))
                size = model.action_tokenizer.size
                guesses[label] = shifted_chunk(decoded.tokens[0].numpy(), length, size)
    medians = {label: float(np.median(values)) for label, values in times.items()}
    return {
        label: {
            "num_tokens": num_tokens,
            "threads": torch.get_num_threads(),
            "n": len(times[label]),
            "median_ms": median,
            "p99_ms": float(np.quantile(times[label], 0.99)),
            "speed_up": medians["greedy"] / median,
            "mean_forwards": float(np.mean(forwards.get(label, [1]))),
        }
        for label, median in medians.items()
    }


def decode_start(
    model: VlaModel, observation: Observation, guess: np.ndarray, rule: ExitRule | None
) -> Any:
    """Decode as many leading tokens of a chunk as `guess` has; greedily without a rule."""
    prompt = model.prompt({key: values[:, 0] for key, values in observation.frames.items()})
    single = rule is not None and rule.max_calls == 1
    token_model, begin = model.token_model(prompt, cached=not single), model.begin(1)
    if rule is None:
        return greedy_tokens(token_model, begin, len(guess))
    return jacobi_committed(token_model, begin, torch.from_numpy(guess)[None], rule)


def plot(results: Results, checkpoint: str, path: Path) -> None:
    """Speed-up over greedy decoding against chunk length, one line per decoder."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for label in (*RULES, LIMIT):
        found = [
            (row["num_actions"], row["speed_up"])
            for row in results.rows
            if (row["part"], row["checkpoint"], row["decoding"]) == ("length", checkpoint, label)
        ]
        style = "k--" if label == LIMIT else "o-"
        axes.plot(*zip(*sorted(found), strict=True), style, label=label)
    axes.set_xlabel("actions per chunk m")
    axes.set_ylabel("speed-up over greedy decoding")
    axes.set_xticks(LENGTHS)
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path, dpi=150)
    pyplot.close(figure)
