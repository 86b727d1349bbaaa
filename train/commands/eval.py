"""`hotloop eval`: run a checkpoint in its simulator and report the score with its interval."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config.compose import compose
from . import ExitCode

if TYPE_CHECKING:
    from ...envs.rollout import Evaluation
    from ..config.evaluation import EvalConfig

EPILOG = """\
examples:
  hotloop eval pusht-sdp sampling.calls_per_step=1
  hotloop eval outputs/train eval.n_episodes=20 eval.videos=2 output_dir=outputs/eval
  hotloop eval pusht-sdp compare=pusht-dp   paired comparison on the same episodes
  hotloop eval pusht-dp engine=auto         on what runs it fastest here, found once
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
    from ..config.evaluation import EvalConfig
    from ..evaluation import evaluate

    config: EvalConfig = compose("eval", args.overrides, EvalConfig)
    evaluation = evaluate(args.checkpoint, config)
    report(args.checkpoint, evaluation, config, "eval_info.json")
    if config.compare:
        from ...envs.statistics import compare

        other = evaluate(config.compare, config)
        report(config.compare, other, config, "eval_info_compare.json")
        result = compare(evaluation, other)
        low, high = result.ci95
        print(
            f"{config.compare} minus {args.checkpoint}: {result.mean_difference:+.3f} "
            f"(95 % interval {low:+.3f} to {high:+.3f}, better in {result.num_better}, worse in "
            f"{result.num_worse} of {result.num_episodes} episodes, sign test p = "
            f"{result.sign_p:.3f})"
        )
    return ExitCode.SUCCESS


def report(name: str, evaluation: Evaluation, config: EvalConfig, file: str) -> None:
    """Print one line, and write the episodes if an output folder is given."""
    from ...envs.statistics import summary, write_json

    result = summary(evaluation)
    print(
        f"{name} on {result['task']}: {result['metric']} {_score(result)}, success "
        f"{result['pc_success']:.0f} %, n {result['n']}, seeds {result['seeds'][0]} to "
        f"{result['seeds'][-1]}"
    )
    if "equal_tokens" in evaluation.run:
        print(
            f"{evaluation.run['equal_tokens']:.1%} of {evaluation.run['compared_tokens']} tokens "
            "are those of the stored weights' own precision"
        )
    if config.output_dir:
        path = Path(config.output_dir) / file
        write_json(evaluation, path)
        print(f"written: {path}")


def _score(result: Mapping[str, Any]) -> str:
    """The mean score with its uncertainty; a normalised return as D4RL prints it, times 100."""
    from ...envs.registry import TASKS, make_task

    mean, (low, high) = result["mean_score"], result["ci95"]
    task = result["task"]
    if task not in TASKS.names or make_task(task).reference is None:
        return f"{mean:.3f} (95 % interval {low:.3f} to {high:.3f})"
    error = result["standard_error"]
    spread = "" if error is None else f" ± {100 * error:.1f} (standard error)"
    return f"{100 * mean:.1f}{spread}"
