"""What the environment cannot do: weaken TLS, or hand credentials on to programs that need none."""

from __future__ import annotations

import os

import pytest

from worker.core.errors import UsageError
from worker.settings.environment import ignore_empty_certificates, refuse_key_log, without_secrets


@pytest.mark.parametrize("signal", ["", "TRACES_", "METRICS_"])
def test_an_empty_name_of_certificates_means_the_usual_ones_and_never_none(
    monkeypatch: pytest.MonkeyPatch, signal: str
) -> None:
    name = f"OTEL_EXPORTER_OTLP_{signal}CERTIFICATE"
    for empty in ("", " "):
        monkeypatch.setenv(name, empty)
        ignore_empty_certificates()
        assert name not in os.environ
    monkeypatch.setenv(name, "/etc/ssl/collector.pem")
    ignore_empty_certificates()
    assert os.environ[name] == "/etc/ssl/collector.pem"


def test_the_keys_of_connections_go_nowhere() -> None:
    refuse_key_log({"SSLKEYLOGFILE": "", "PYTHONHTTPSVERIFY": "0"})  # the second means nothing to what is used here
    with pytest.raises(UsageError, match="SSLKEYLOGFILE"):
        refuse_key_log({"SSLKEYLOGFILE": "/tmp/keys"})


def test_processes_that_need_no_credentials_get_none() -> None:
    environment = {
        "PATH": "/usr/bin",
        "LANG": "C.UTF-8",
        "MFA_WORKER_SIGN_IN__CLIENT_SECRET": "secret",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "aws_session_token": "secret",
        "OTEL_EXPORTER_OTLP_HEADERS": "authorization=secret",
    }
    assert without_secrets(environment) == {"PATH": "/usr/bin", "LANG": "C.UTF-8"}
