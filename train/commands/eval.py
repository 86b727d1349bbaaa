"""`hotloop eval`: run a checkpoint in its simulator and report the score with its interval."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.compose import compose

if TYPE_CHECKING:
    from ...envs.rollout import Evaluation
    from ..config.training import EvalConfig

EPILOG = """\
examples:
  hotloop eval pusht-sdp calls_per_step=1
  hotloop eval outputs/train eval.n_episodes=20 eval.videos=2 output_dir=outputs/eval
  hotloop eval pusht-sdp compare=pusht-dp   paired comparison on the same episodes
  hotloop eval pusht-dp eval.latency=3      actions arrive three control steps late
  hotloop eval pusht-dp eval.latency=3 sampling.prefix_guidance=vjp     and join the plan before
"""


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the `eval` command."""
    parser = subparsers.add_parser(
        "eval",
        help="score a policy in its simulator",
        description="Run a checkpoint, included (by name) or your own (by path), over many seeds.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", metavar="NAME_OR_PATH")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Compose the configuration, evaluate, print and write the result."""
    import torch

    from ..config.training import EvalConfig

    config: EvalConfig = compose("eval", args.overrides, EvalConfig)
    torch.set_num_threads(config.num_threads)
    evaluation = evaluate_checkpoint(args.checkpoint, config)
    report(args.checkpoint, evaluation, config, "eval_info.json")
    if config.compare:
        from ...envs.statistics import compare

        other = evaluate_checkpoint(config.compare, config)
        report(config.compare, other, config, "eval_info_compare.json")
        result = compare(evaluation, other)
        low, high = result.ci95
        print(
            f"{config.compare} minus {args.checkpoint}: {result.mean_difference:+.3f} "
            f"(95 % interval {low:+.3f} to {high:+.3f}, better in {result.num_better}, worse in "
            f"{result.num_worse} of {result.num_episodes} episodes, sign test p = "
            f"{result.sign_p:.3f})"
        )
    return 0


def evaluate_checkpoint(name_or_path: str, config: EvalConfig) -> Evaluation:
    """Load a checkpoint and run the episodes that `config` asks for."""
    from ...envs.registry import make_task
    from ...envs.rollout import evaluate
    from ...envs.video import Video
    from ...policies.checkpoint import load_checkpoint
    from ..families.diffusion import RECORDED

    checkpoint = load_checkpoint(name_or_path)
    name = config.task or str(checkpoint.provenance["task"])
    if name == RECORDED:
        raise ValueError(
            f"{name_or_path} was trained on recordings of a robot, to which no simulator "
            "belongs; run it with `hotloop control checkpoint=…`, or name one with task=NAME"
        )
    task = make_task(name)
    policy = checkpoint.policy(config.sampling_choices(), config.engine)
    options = config.eval
    video = None
    if options.videos:
        video = Video(Path(config.output_dir or ".") / "video.mp4", options.videos)
    return evaluate(
        policy,
        task,
        range(options.seed, options.seed + options.n_episodes),
        options.batch_size,
        latency=options.latency,
        progress=Path(name_or_path).name,
        video=video,
    )


def report(name: str, evaluation: Evaluation, config: EvalConfig, file: str) -> None:
    """Print one line, and write the episodes if an output folder is given."""
    from ...envs.statistics import summary, write_json

    result = summary(evaluation)
    print(
        f"{name} on {result['task']}: {result['metric']} {_score(result)}, success "
        f"{result['pc_success']:.0f} %, n {result['n']}, seeds {result['seeds'][0]} to "
        f"{result['seeds'][-1]}"
    )
    if config.output_dir:
        path = Path(config.output_dir) / file
        write_json(evaluation, path)
        print(f"written: {path}")


def _score(result: Mapping[str, Any]) -> str:
    """The mean score with its uncertainty; a normalised return as D4RL prints it, times 100."""
    from ...envs.registry import make_task

    mean, (low, high) = result["mean_score"], result["ci95"]
    if make_task(result["task"]).reference is None:
        return f"{mean:.3f} (95 % interval {low:.3f} to {high:.3f})"
    error = result["standard_error"]
    spread = "" if error is None else f" ± {100 * error:.1f} (standard error)"
    return f"{100 * mean:.1f}{spread}"
