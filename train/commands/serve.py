"""`hotloop serve`: a policy for robots that ask over the network."""

from __future__ import annotations

import argparse

from ..config.compose import compose
from . import ExitCode

EPILOG = """\
examples:
  hotloop serve pusht-sdp sampling.calls_per_step=1
  hotloop serve outputs/arm max_clients=32 wait_ms=2        many robots, shared forwards
  HOTLOOP_TOKEN=… hotloop serve outputs/arm host=0.0.0.0 tls_cert=cert.pem tls_key=key.pem
  hotloop serve outputs/arm mode=chunk                      a whole plan per request
  hotloop control robot=my_arm.yaml checkpoint=ws://gpu-machine:8000     hotloop's own client

Clients of openpi work unchanged, with action_horizon=1: they send what the policy reads, and get
the action of each control step. What it reads is in the metadata that a client gets first.
GET /healthz says whether the server is up, GET /metrics what it counted, for Prometheus. Ctrl-C
ends it. The network runs on the engine that is fastest here, found by a trial of seconds at the
first start, unless engine= names one."""


def add_parser(subparsers: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """Add the `serve` command."""
    parser = subparsers.add_parser(
        "serve",
        help="serve a policy to robots over the network",
        description=(
            "Serve a policy over a websocket, in openpi's wire format, to this machine or, with a "
            "token, to others. Each connection is a robot with a row of its own."
        ),
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("checkpoint", metavar="NAME_OR_PATH")
    parser.add_argument("overrides", nargs="*", metavar="key=value")
    parser.set_defaults(run=run)
    return parser


def run(args: argparse.Namespace) -> int:
    """Load, warm up, and serve until it is interrupted."""
    from ...decoding.exported import is_exported
    from ...decoding.serving.server import PolicyServer
    from ...policies.programs.engines.engine import AUTO
    from ..config.serving import ServeConfig
    from .opening import about, open_policy

    config = compose("serve", args.overrides, ServeConfig)
    options = config.options()
    options.ssl_context()
    # Loading takes seconds; what is in the way of the server shows before.
    if options.port:
        check_address(options.host, options.port)
    name = args.checkpoint
    # What was exported, and what LeRobot runs, has an engine of its own.
    engine = config.engine or ("" if is_exported(name) or ":" in name else AUTO)
    opened = open_policy(
        name,
        config.sampling,
        engine,
        config.num_threads,
        lerobot=config.lerobot,
        device=config.device,
        precision=config.precision,
    )
    server = PolicyServer(opened.policy, options, about(opened), _say)
    server.warm_up()
    server.run(lambda address: _say(f"serving {name} at {address}"))
    counts = server.metrics
    _say(f"{sum(counts.requests.values())} requests of {counts.connections} connections answered")
    return ExitCode.SUCCESS


def check_address(host: str, port: int) -> None:
    """Raise OSError, in a sentence, if nobody can listen there."""
    import socket

    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        reason = error.strerror or error
        raise OSError(f"host={host} port={port} cannot be listened at: {reason}") from None


def _say(text: str) -> None:
    print(text, flush=True)
