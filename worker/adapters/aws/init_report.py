"""What ``init`` prints while it works: what it created or found, and what is less safe than ``init`` would make it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import TextIO

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code
from worker.adapters.checks.findings import Finding, Level
from worker.adapters.checks.probes import refused


class InitReport:
    """Writes the report to ``out``, one line for each resource."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def _say(self, text: str) -> None:
        with suppress(BrokenPipeError):  # nobody reads on: that is no reason to make only half
            self._out.write(text)
            self._out.flush()

    def made(self, about: str, name: str, made: bool) -> None:
        """Report that a resource exists; ``made``: it was created just now."""
        self._say(f"{'created' if made else 'found':8} {about}: {name}\n")

    def judged(self, findings: Sequence[Finding]) -> None:
        """Report what should be changed about a resource that existed before."""
        for finding in findings:
            if finding.level is not Level.OK:
                self._say(f"         left as it is: {finding.said}\n         → {finding.cure}\n")

    def not_looked_at(self, what: str, error: ClientError) -> None:
        """Report that ``what`` could not be checked, and why."""
        why = "not permitted" if refused(error) else code(error)
        self._say(f"         {what} not looked at: {why}\n")
