"""What ``init`` says while it works: what it made or found, and what it found less safe than it would make it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code
from worker.adapters.checks.findings import Finding, Level
from worker.adapters.checks.probes import refused


class InitReport:
    """Writes it to ``out``, a line a thing."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def made(self, about: str, name: str, made: bool) -> None:
        """That this is there; ``made``: since now."""
        self._out.write(f"{'created' if made else 'found':8} {about}: {name}\n")

    def judged(self, findings: Sequence[Finding]) -> None:
        """What should be changed about something that was found."""
        for finding in findings:
            if finding.level is not Level.OK:
                self._out.write(f"         left as it is: {finding.said}\n         → {finding.cure}\n")

    def not_looked_at(self, what: str, error: ClientError) -> None:
        """That ``what`` could not be judged."""
        why = "not permitted" if refused(error) else code(error)
        self._out.write(f"         {what} not looked at: {why}\n")
