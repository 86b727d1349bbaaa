"""DAgger for a student of a vision-language teacher: its own episodes as data, and what they gave.

    python tests/benchmarks/vla_dagger.py play OUT.hdf5 CHECKPOINT [--demonstrations DATASET]
    python tests/benchmarks/vla_dagger.py compare OUT.json CHECKPOINT [CHECKPOINT ...]

A student learns on its teacher's way, and acts on its own. DAgger (Ross et al. 2011) asks the
teacher where the student comes to: `play` records the student's episodes, undisturbed and with its
own decoder, and writes them with the demonstrations behind them. `hotloop jacobi TEACHER OUT.hdf5`
then decodes at these states what the teacher would do. The actions in the file are the student's
and no example, so train with ``policy.label_quantile=1``, which believes the teacher everywhere.

`compare` plays the same episodes with every decoder of every checkpoint, a few in turn, so that it
can be stopped at any time; each is compared with the first checkpoint's same decoder, episode by
episode. It goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from result_rows import Results
from vla_decoders import DECODINGS
from vla_success import evaluation_of, rate

from hotloop.envs.registry import make_task
from hotloop.envs.rollout import evaluate
from hotloop.envs.statistics import compare
from hotloop.policies.checkpoint import load_checkpoint
from hotloop.train.data.episodes import Episodes
from hotloop.train.data.formats.registry import read_episodes
from hotloop.train.data.write import write_episodes
from hotloop.train.distillation.rollouts import roll_out

BLOCK = 30  # episodes between two lines of progress, or two turns of a decoder


def run_play(args: argparse.Namespace) -> None:
    """Write what a checkpoint does, and the demonstrations behind it."""
    parts = [played(args.checkpoints[0], range(args.first_seed, args.first_seed + args.episodes))]
    lengths = np.diff(parts[0].episode_ends, prepend=0)
    print(f"{lengths.sum()} steps; {np.mean(lengths < lengths.max()):.1%} shorter than the longest")
    if args.demonstrations:
        parts.append(read_episodes(args.demonstrations, everything=True))
    write_episodes(args.output, joined(parts), "robomimic")


def played(name: str, seeds: range) -> Episodes:
    """What a checkpoint does in its task, one episode per seed."""
    checkpoint = load_checkpoint(name)
    policy, task = checkpoint.policy(), make_task(str(checkpoint.provenance["task"]))
    parts = []
    for first in range(0, len(seeds), BLOCK):
        parts.append(roll_out(policy, task, seeds[first : first + BLOCK], noise=0.0))
        print(f"{first + len(parts[-1]['lengths'])} of {len(seeds)} episodes", flush=True)
    arrays = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    facts = {
        "task": task.name,
        "rollouts_of": Path(name).name,
        "first_seed": seeds[0],
        "dt": task.action_spec.dt,
    }
    ends = arrays.pop("lengths").cumsum()
    return Episodes(arrays, arrays.pop("action"), ends, metadata=facts)


def joined(parts: Sequence[Episodes]) -> Episodes:
    """Episodes of several sources, with what the first one reads."""
    first, *others = parts
    steps = np.cumsum([0, *(part.num_steps for part in parts)])
    return Episodes(
        {key: np.concatenate([part.observations[key] for part in parts])
         for key in first.observations},
        np.concatenate([part.actions for part in parts]),
        np.concatenate([part.episode_ends + at for part, at in zip(parts, steps, strict=False)]),
        metadata={**first.metadata, "behind": [dict(part.metadata) for part in others]},
    )  # fmt: skip


def run_compare(args: argparse.Namespace) -> None:
    """One row per checkpoint and decoder, which grows turn by turn."""
    results = Results(args.output, silent=("successes",))
    reference, task = args.checkpoints[0], ""
    policies = {}
    for name in args.checkpoints:
        checkpoint = load_checkpoint(name)
        task = str(checkpoint.provenance["task"])
        for label in args.decodings:
            policies[name, label] = checkpoint.policy(DECODINGS[label], args.engine)
    for first in range(0, args.episodes, BLOCK):
        # The reference comes first in every turn, as the others are compared with it.
        for (name, label), policy in policies.items():
            key = {"part": "compare", "checkpoint": Path(name).name, "decoding": label}
            key |= {"task": task, "engine": args.engine, "first_seed": args.first_seed}
            successes = (results.find(key) or {"successes": []})["successes"]
            if len(successes) > first:
                continue
            seeds = range(args.first_seed, args.first_seed + min(first + BLOCK, args.episodes))
            evaluation = evaluate(policy, make_task(task), seeds[first:], 1)
            successes = successes + [int(one.success) for one in evaluation.episodes]
            values = {"n": len(successes), **rate(successes), "successes": successes}
            if name != reference:
                row = results.find({**key, "checkpoint": Path(reference).name})
                assert row is not None
                pair = [evaluation_of(task, seeds, one) for one in (row["successes"], successes)]
                values["difference_to_first"] = asdict(compare(*pair))
            (results.update if results.has(key) else results.add)(key, values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("play", "compare"))
    parser.add_argument("output", type=Path)
    parser.add_argument("checkpoints", nargs="+")
    parser.add_argument("--demonstrations", default="", help="dataset to write behind, for play")
    parser.add_argument("--episodes", type=int, default=240)
    parser.add_argument("--first-seed", type=int, default=500_000)
    parser.add_argument("--decodings", nargs="+", default=["sigma 1, warm", "greedy"])
    parser.add_argument("--engine", default="openvino", help="for compare")
    args = parser.parse_args()
    (run_play if args.part == "play" else run_compare)(args)


if __name__ == "__main__":
    main()
