"""The command ``report``: the page for people who read no terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.cli.options import as_typed, configured
from worker.core.errors import UsageError

if TYPE_CHECKING:
    from worker.settings import Settings


def _named(context: click.Context, _option: click.Parameter, value: str | None) -> Path:
    """Return the page's path. Raises ``UsageError`` where there is none, before anything else is asked for."""
    if context.resilient_parsing:  # which is how the shell asks for completions
        return Path(value or "")
    if value is None:
        raise UsageError(
            "report writes a page, and nobody said where",
            "mfa-worker report --html report.html (for scripts: mfa-worker status --json)",
        )
    if value in ("-", ""):
        raise UsageError(
            "the page is written to a file of its own, whole and private, and not to standard output",
            "mfa-worker report --html report.html",
        )
    return Path(value)


@click.command()
@click.option(
    "--html", "page", metavar="FILE", callback=_named, help="The page's file; an older page there is replaced."
)
@click.option(
    "--usernames", is_flag=True, help="Name the users who are left, with their reasons. Without it nobody is named."
)
@configured
def report(settings: Settings, page: Path, usernames: bool) -> None:
    """Write a page that says how the rollout stands: who is left and why, what happened when, and what to do next.

    It is one HTML file, for every browser and for paper, and may be made while workers run.
    """
    from worker.app.report_page import write_page
    from worker.app.run import run_async
    from worker.core.text import escape

    said = run_async(write_page(settings, page, command=as_typed(settings), usernames=usernames))
    click.echo(f"{escape(str(page))}: {said}")
