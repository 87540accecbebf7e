"""What ``check`` finds about ``metrics.port``: whether a run could listen there, and who could ask."""

from __future__ import annotations

from collections.abc import Iterator

from worker.adapters.checks.findings import Finding, advice, fails, ok
from worker.core.errors import UsageError
from worker.extras import require
from worker.settings import Settings
from worker.telemetry.metrics.listening import is_for_others, listen


def look(settings: Settings) -> Iterator[Finding]:
    """Nothing where there is no port. The port is opened for a moment, and nothing is answered there."""
    if not settings.metrics.port:
        return
    try:
        require("metrics", "prometheus_client", "metrics.port")
    except UsageError as missing:
        yield fails("metrics", str(missing), missing.hint)
        return
    try:
        sockets = listen(settings.metrics.host, settings.metrics.port)
    except UsageError as refusal:  # perhaps by a worker that is running as it should
        yield advice("metrics", f"{refusal}; a run that began now would exit 2", refusal.hint)
        return
    others = is_for_others(sockets)
    for each in sockets:
        each.close()
    who = "whoever reaches this machine can ask, without a password" if others else "this machine alone can ask"
    yield ok("metrics", f"port {settings.metrics.port} is free; {who}")
