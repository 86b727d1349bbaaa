"""Configuration of a policy server."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ...decoding.plumbing.devices import CPU, check_device
from ...decoding.serving.options import ServerOptions
from .checks import at_least

TOKEN = "HOTLOOP_TOKEN"


@dataclass(frozen=True)
class ServeConfig:
    """One policy server.

    Attributes:
        host: Address to listen at; others than this machine's own, 0.0.0.0 for example, need a
            token.
        port: TCP port, 0 for any that is free.
        max_clients: Robots at a time.
        mode: ``step``: a request per control step; ``chunk``: a request per plan.
        wait_ms: How long a request waits for those of other robots, to share a forward [ms].
        engine: auto, eager, compile, onnx, openvino, openvino-bf16 or cuda-graph; by default auto,
            the fastest of them for one robot. What was exported has its own.
        device: Where the networks run: cpu, cuda, or cuda:N for one of several GPUs.
        precision: Of the products: float32, tf32, bf16 or fp16, as far as the engine has it.
        sampling: Sampling choices of the checkpoint's kind, e.g. ``sampling.calls_per_step=1``.
        lerobot: What a LeRobot folder does not hold, e.g. ``lerobot.dt=0.1``.
        seed: Seed of the first episode; each further one takes the next.
        num_threads: CPU threads of the network.
        token_file: File with the token that clients have to show; else it is that of the
            environment's HOTLOOP_TOKEN, if there is one.
        tls_cert: File of the certificate in PEM, for wss://.
        tls_key: File of its private key.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    max_clients: int = 8
    mode: Literal["step", "chunk"] = "step"
    wait_ms: float = 0.0
    engine: str = ""
    device: str = CPU
    precision: str = "float32"
    sampling: dict[str, Any] = field(default_factory=dict)
    lerobot: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    num_threads: int = 1
    token_file: str = ""
    tls_cert: str = ""
    tls_key: str = ""

    def __post_init__(self) -> None:
        """Reject numbers and devices that are none."""
        at_least(1, num_threads=self.num_threads)
        check_device(self.device)

    @staticmethod
    def explain(key: str) -> str:
        """Say where a token or a sampling choice is written, if `key` is one."""
        if key == "token":
            # Whoever lists the machine's processes reads arguments.
            return f"token: give it in a file, token_file=…, or in the environment as {TOKEN}"
        from .evaluation import explain_sampling  # brings torch

        return explain_sampling(key)

    def options(self) -> ServerOptions:
        """Address, rows and access.

        Raises:
            ValueError: If they are impossible, or open to everybody.
            FileNotFoundError: If there is no such token file.
        """
        token = os.environ.get(TOKEN, "").strip()
        if self.token_file:
            token = Path(self.token_file).read_text().strip()
            if not token:
                raise ValueError(f"token_file={self.token_file} holds no token, it is empty")
        return ServerOptions(
            self.host, self.port, self.max_clients, self.mode, self.wait_ms, self.seed, token,
            self.tls_cert, self.tls_key,
        )  # fmt: skip
