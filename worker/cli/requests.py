"""The commands ``push``, ``status`` and ``export``: they put requests on the queue and show what became of them."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from worker.cli.options import binary, configured, small_pipe
from worker.core.errors import ExitCode

if TYPE_CHECKING:
    from worker.settings import Settings


@click.command()
@click.argument("file", required=False, type=click.Path(path_type=str, allow_dash=True))
@click.option(
    "--keep-fresh",
    is_flag=True,
    callback=small_pipe,
    help="Push no faster than the workers use it, so that no credential dies.",
)
@click.option(
    "--roster",
    metavar="FILE",
    help="Remember the users that this file names, one a line, so that status tells who never got a request.",
)
@configured
def push(settings: Settings, file: str | None, keep_fresh: bool, roster: str | None) -> int:
    """Put requests (JSON lines of FILE, or of standard input) on the queue. Exit 1 if any was malformed."""
    from worker.app import commands
    from worker.app.run import run_async
    from worker.app.written_files import refuse_wrong_files
    from worker.telemetry import report

    refuse_wrong_files(settings, read={"FILE": file, "--roster": roster})
    some_refused = False
    if roster is not None:
        with binary(roster) as stream:
            added, no_names = run_async(commands.add_to_roster(settings, stream))
        click.echo(f"roster: {added} new, malformed {no_names.total}")
        report.print_lines(no_names.lines(), sys.stderr)
        some_refused = bool(no_names)
        if file is None:
            return ExitCode.SOME_LEFT_OUT if some_refused else ExitCode.DONE
    put = commands.push_fresh if keep_fresh else commands.push
    with binary(file or "-") as stream:
        pushed = run_async(put(settings, stream))
    click.echo(f"accepted {pushed.accepted}, duplicate {pushed.duplicates}, malformed {pushed.refused.total}")
    report.print_lines(pushed.refused.lines(), sys.stderr)
    return ExitCode.SOME_LEFT_OUT if pushed.refused or some_refused else ExitCode.DONE


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
@click.option("--malformed", is_flag=True, help="List the malformed messages too, by reason and digest.")
@configured
def status(settings: Settings, as_json: bool, malformed: bool) -> None:
    """Count the users in each of the ledger's states, and the requests that wait."""
    from worker.app import commands
    from worker.app.run import run_async
    from worker.telemetry import report

    counts, backlog = run_async(commands.status(settings))
    aside = run_async(commands.malformed(settings)) if malformed else None
    if as_json:
        listed = {"put_aside": None if aside is None else [asdict(each) for each in aside]} if malformed else {}
        click.echo(json.dumps({**report.status(counts, backlog), **listed}))
        return
    report.print_table(counts, backlog, None, sys.stdout, quota=settings.rate.effective, calls=settings.calls_per_user)
    if malformed:
        report.print_lines(commands.told(aside, settings), sys.stdout)


@click.command()
@click.option("--state", required=True, help="Such as needs_session or failed; or unrequested, of the roster.")
@configured
def export(settings: Settings, state: str) -> None:
    """Print the users in a state, with reason, one JSON object a line: add a credential to each and push them again."""
    from worker.app import commands
    from worker.app.run import run_async

    if state == commands.UNREQUESTED:
        run_async(commands.export_unrequested(settings, sys.stdout))
    else:
        run_async(commands.export(settings, commands.state(state), sys.stdout))
