"""How a policy is served: address, rows, and who may ask."""

from __future__ import annotations

import hmac
import ipaddress
import ssl
from dataclasses import dataclass, field
from typing import Literal

MODES = ("step", "chunk")
LARGEST_SEED = 1 << 53  # every client can count so far, and further episodes have room above it


@dataclass(frozen=True)
class ServerOptions:
    """Address, rows and access of a policy server.

    Attributes:
        host: Address to listen at; others than this machine's own need a token.
        port: TCP port, 0 for any that is free.
        max_clients: Robots at a time, each with a row of the policy.
        mode: ``"step"``: a request per control step, the server keeps history and queue;
            ``"chunk"``: a request per plan, with the newest frames stacked.
        wait_ms: How long a request waits for those of other robots, to share a forward [ms].
        seed: Seed of the first episode; each further one takes the next.
        token: What clients have to show, empty for nothing.
        tls_cert: File of the certificate chain in PEM, empty for no encryption.
        tls_key: File of its private key.
        send_timeout: A client that takes no answer for so long is let go of [s].
    """

    host: str = "127.0.0.1"
    port: int = 8000
    max_clients: int = 8
    mode: Literal["step", "chunk"] = "step"
    wait_ms: float = 0.0
    seed: int = 0
    token: str = field(default="", repr=False)
    tls_cert: str = ""
    tls_key: str = ""
    send_timeout: float = 10.0

    def __post_init__(self) -> None:
        """Reject what could not be served, or would be open to everybody."""
        if self.mode not in MODES:
            raise ValueError(f"mode must be one of {', '.join(MODES)}, got {self.mode!r}")
        if not 0 <= self.port < 1 << 16:
            raise ValueError(f"port must be from 1 to 65535, or 0 for any, got {self.port}")
        if self.max_clients < 1:
            raise ValueError(f"max_clients must be at least 1, got {self.max_clients}")
        in_range = 0 <= self.wait_ms < 1000 and self.send_timeout > 0
        if not (in_range and 0 <= self.seed < LARGEST_SEED):
            raise ValueError(
                "wait_ms must be from 0 to 1000 ms, send_timeout a positive time in s and seed 0 "
                f"to {LARGEST_SEED:g}, got {self.wait_ms}, {self.send_timeout} and {self.seed}"
            )
        if bool(self.tls_cert) != bool(self.tls_key):
            raise ValueError("encryption needs both tls_cert and tls_key, got one of them")
        if not (self.token or is_loopback(self.host)):
            raise ValueError(
                f"host {self.host!r} can be reached by others, who would command the policy; give "
                "a token, in HOTLOOP_TOKEN or a file token_file=…, or leave host out"
            )

    @property
    def scheme(self) -> str:
        """Of the server's address."""
        return "wss" if self.tls_cert else "ws"

    def ssl_context(self) -> ssl.SSLContext | None:
        """What encrypts connections, None for nothing.

        Raises:
            ValueError: If certificate or key are none, or do not belong to each other.
            FileNotFoundError: If one of them is not there.
        """
        if not self.tls_cert:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.tls_cert, self.tls_key)
        except ssl.SSLError as error:
            raise ValueError(
                f"tls_cert={self.tls_cert} and tls_key={self.tls_key} are no certificate and its "
                f"key in PEM: {error.reason or error}"
            ) from None
        return context

    def admits(self, authorizations: list[str]) -> bool:
        """Whether these ``Authorization`` headers show the token; in the same time if not."""
        if not self.token:
            return True
        shown = authorizations[0] if len(authorizations) == 1 else ""
        scheme, _, token = shown.partition(" ")
        # What is no text comes as lone surrogates.
        given = token.strip().encode(errors="surrogateescape")
        same = hmac.compare_digest(given, self.token.encode())
        return same and scheme.lower() in ("api-key", "bearer")


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
