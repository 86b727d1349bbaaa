"""Who may ask a policy server: tokens, browsers, encryption."""

from __future__ import annotations

import ssl
import subprocess
from pathlib import Path

import pytest
from served import ask, plain_http, serving
from websockets.exceptions import InvalidStatus

from hotloop.decoding.serving import RemotePolicy, ServerOptions
from hotloop.train.commands.serve import check_address


def status(running, **options) -> int:
    with pytest.raises(InvalidStatus) as refused:
        running.connect(**options)
    return refused.value.response.status_code


@pytest.mark.parametrize(
    "header",
    [None, "", "Api-Key", "Api-Key wrong", "Api-Key secre", "Basic secret", "secret", "Api-Key é"],
)
def test_without_the_token_nobody_gets_in(header) -> None:
    with serving(token="secret") as running:
        headers = {} if header is None else {"Authorization": header}
        assert status(running, additional_headers=headers) == 401
        assert running.server.metrics.refused["token"] == 1
        assert running.server.metrics.connections == 0


def test_with_the_token_of_either_scheme_clients_get_in() -> None:
    with serving(token="secret") as running:
        for scheme in ("Api-Key", "Bearer", "bearer"):
            client = running.connect(additional_headers={"Authorization": f"{scheme} secret"})
            assert ask(client)["step"] == 0
        twice = [("Authorization", "Api-Key secret"), ("Authorization", "Api-Key wrong")]
        assert status(running, additional_headers=twice) == 401


def test_health_needs_no_token_and_tells_nothing_else_and_metrics_need_it() -> None:
    with serving(token="secret") as running:
        asked = "GET {} HTTP/1.1\r\nHost: a\r\n{}\r\n"
        health = plain_http(running.port, asked.format("/healthz", ""))
        assert health.partition("\r\n\r\n")[2] == "OK\n" and "hotloop" not in health
        assert "Server:" not in health
        assert "401" in plain_http(running.port, asked.format("/metrics", "")).splitlines()[0]
        shown = "Authorization: Bearer secret\r\n"
        assert "hotloop_rows 8" in plain_http(running.port, asked.format("/metrics", shown))


def test_a_page_in_a_browser_cannot_connect_to_a_server_on_its_machine() -> None:
    with serving() as running:
        assert status(running, origin="http://127.0.0.1:8000") == 403


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> tuple[str, str]:
    """Files of a certificate for this machine and its key."""
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
               "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj", "/CN=localhost",
               "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1",
               "-keyout", str(key), "-out", str(cert)]  # fmt: skip
    try:
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("openssl, which makes the certificate, is not installed")
    return str(cert), str(key)


def test_an_encrypted_server_is_trusted_by_its_certificate_alone(certificate, monkeypatch) -> None:
    cert, key = certificate
    with serving(token="secret", tls_cert=cert, tls_key=key) as running:
        assert running.address.startswith("wss://127.0.0.1:")
        with pytest.raises(ValueError, match=r"certificate .*SSL_CERT_FILE=FILE"):
            RemotePolicy(running.address, token="secret")
        monkeypatch.setenv("SSL_CERT_FILE", cert)
        with pytest.raises(ValueError, match=r"does not take the token; .*HOTLOOP_TOKEN"):
            RemotePolicy(running.address, token="wrong")
        monkeypatch.setenv("HOTLOOP_TOKEN", "secret")
        policy = RemotePolicy(running.address)
        assert policy.num_execute == 4
        policy.close()
        plain = running.address.replace("wss", "ws")
        with pytest.raises(ConnectionError, match="no policy server"):
            RemotePolicy(plain)
        client = running.connect(
            ssl=ssl.create_default_context(), additional_headers={"Authorization": "Bearer secret"}
        )
        assert ask(client)["step"] == 0


def test_files_that_are_no_certificate_are_named(tmp_path: Path, certificate) -> None:
    wrong = tmp_path / "cert.pem"
    wrong.write_text("no certificate")
    with pytest.raises(ValueError, match=r"no certificate and its key in PEM"):
        ServerOptions(tls_cert=str(wrong), tls_key=certificate[1]).ssl_context()
    with pytest.raises(FileNotFoundError):
        ServerOptions(tls_cert="missing.pem", tls_key=certificate[1]).ssl_context()


def test_a_host_of_either_family_is_tried_before_the_policy_is_loaded() -> None:
    with serving() as running:
        for host in ("::1", "127.0.0.1"):
            check_address(host, 0)
        with pytest.raises(OSError, match=f"port={running.port} cannot be listened at"):
            check_address("127.0.0.1", running.port)
