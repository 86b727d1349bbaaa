"""`hotloop acceptance`: thresholds with which a token policy accepts tokens before their proof."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..config.compose import compose
from . import ExitCode

EPILOG = """\
The network stays as it is. OUT is the checkpoint with sampling.method=learned and
sampling.thresholds; sampling.method=committed is what it was. What is printed was measured on
episodes that the fit has not seen.

examples:
  hotloop acceptance tabletop-vla-fast demonstrations.hdf5 outputs/accepting
  hotloop acceptance outputs/student demonstrations.hdf5 outputs/quick tolerance=0.04
  hotloop eval outputs/accepting engine=openvino
"""


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the `acceptance` command."""
    parser = subparsers.add_parser(
        "acceptance",
        help="fit when a token policy may accept a token without proof",
        description=(
            "Fit one margin per forward from a policy's Jacobi iterations on recorded "
            "observations: a token whose margin is larger is kept, and a chunk of such tokens is "
            "given out."
        ),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="by name or path")
    parser.add_argument("dataset", help="recorded observations, such as its demonstrations")
    parser.add_argument("out", type=Path, help="folder of the checkpoint with thresholds")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Fit, try on held-out episodes, and store."""
    from dataclasses import asdict, replace

    import torch

    from ...policies.checkpoint import save_checkpoint
    from ...policies.vla.decoding_config import LEARNED
    from ..objectives import token_acceptance as fitting
    from .token_policies import load_token_policy, recorded_windows

    config = compose("acceptance", args.overrides, fitting.AcceptanceConfig)
    if args.out.exists():
        raise ValueError(f"{args.out} exists already; choose another folder")
    checkpoint = load_token_policy(args.checkpoint)
    torch.set_num_threads(1)
    windows, episodes = recorded_windows(checkpoint.model, args.dataset)
    observed = fitting.Observed(checkpoint.model, windows, config.batch_size)
    seen, held_out = fitting.split(episodes, config.held_out)
    plans = fitting.followed_plans(observed, episodes, checkpoint.sampling, config.seed)
    fitted, unseen = plans.within(*seen), plans.within(*held_out)
    acceptance = fitting.fit_acceptance(observed, fitted, config)
    rows = fitting.tried(observed, unseen, acceptance, (1, 2, 3, 4))
    print(f"{len(fitted.index)} plans fitted, {len(unseen.index)} held out:")
    print(f"{'decoder':<10} {'forwards':>8} {'distance':>8} {'equal':>6}")
    for row in rows:
        print(f"{row.name:<10} {row.mean_forwards:8.2f} {row.distance:8.4f} {row.equal:6.1%}")
    sampling = replace(
        checkpoint.sampling,
        method=LEARNED,
        max_calls=0,
        max_move=-1.0,
        thresholds=acceptance.thresholds,
        reach=acceptance.reach,
    )
    told = {**checkpoint.provenance, "acceptance": {**asdict(config), **asdict(rows[0])}}
    save_checkpoint(args.out, replace(checkpoint, sampling=sampling, provenance=told))
    print(f"{args.out}: thresholds {', '.join(f'{one:.3g}' for one in acceptance.thresholds)}")
    return ExitCode.SUCCESS
