"""The commands ``push``, ``status`` and ``export``: they put requests on the queue and show what became of them."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.cli import completion
from worker.cli.options import binary, configured, duration, small_pipe
from worker.core.errors import ExitCode

if TYPE_CHECKING:
    from worker.settings import Settings

VALID_FOR = 86_400.0
"""Seconds for which tickets live unless ``--valid-for`` says otherwise: a million users take 14 hours at 20 users/s."""


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
    type=click.Path(allow_dash=True),
    metavar="FILE",
    help="Remember the users that this file names, one a line, so that status tells who never got a request.",
)
@click.option(
    "--usernames",
    type=click.Path(allow_dash=True),
    metavar="FILE",
    help="Make a request for each user that this file names, one a line, with a ticket; needs --ticket-key.",
)
@click.option(
    "--ticket-key",
    type=click.Path(allow_dash=True),
    metavar="KEYFILE",
    help="The key of tickets (keygen --ticket); -: standard input.",
)
@click.option(
    "--valid-for", callback=duration, metavar="TIME", help="How long the tickets live, such as 90m or 3d; default: 24h."
)
@configured
def push(
    settings: Settings,
    file: str | None,
    keep_fresh: bool,
    roster: str | None,
    usernames: str | None,
    ticket_key: str | None,
    valid_for: float | None,
) -> int:
    """Put requests (JSON lines of FILE, or of standard input) on the queue. Exit 1 if any was malformed.

    With --usernames requests are made of usernames. With --ticket-key alone, tickets in FILE that are not genuine are
    malformed.
    """
    from worker.app import commands
    from worker.app.run import run_async
    from worker.app.written_files import refuse_wrong_files
    from worker.telemetry import report

    _refuse_what_contradicts(file, roster, usernames, ticket_key, valid_for)
    tickets = None
    if ticket_key is not None:
        from worker.app.tickets import Tickets
        from worker.requests.ticket import read_key

        key = read_key(ticket_key)
        tickets = Tickets(settings, key, None if usernames is None else valid_for or VALID_FOR)
    read = {"FILE": file, "--roster": roster, "--usernames": usernames, "--ticket-key": ticket_key}
    refuse_wrong_files(settings, read=read)
    some_refused = False
    if roster is not None:
        with binary(roster) as stream:
            added, no_names = run_async(commands.add_to_roster(settings, stream))
        click.echo(f"roster: {added} new, malformed {no_names.total}")
        report.print_lines(no_names.lines(), sys.stderr)
        some_refused = bool(no_names)
        if file is None and usernames is None:
            return ExitCode.SOME_LEFT_OUT if some_refused else ExitCode.DONE
    with binary(usernames or file or "-") as stream:
        if keep_fresh and tickets is None:
            pushed = run_async(commands.push_fresh(settings, stream))
        else:
            if keep_fresh:
                click.echo("--keep-fresh is not needed: a ticket does not age while it waits", err=True)
            pushed = run_async(commands.push(settings, stream, tickets))
    click.echo(f"accepted {pushed.accepted}, duplicate {pushed.duplicates}, malformed {pushed.refused.total}")
    if tickets is not None and pushed.accepted and (told := tickets.told()):
        click.echo(told)
    report.print_lines(pushed.refused.lines(), sys.stderr)
    return ExitCode.SOME_LEFT_OUT if pushed.refused or some_refused else ExitCode.DONE


def _refuse_what_contradicts(
    file: str | None, roster: str | None, usernames: str | None, ticket_key: str | None, valid_for: float | None
) -> None:
    """Raise ``click.UsageError`` for options of ``push`` that do not go together."""
    if usernames is not None and file is not None:
        raise click.UsageError("FILE and --usernames both say what is pushed: name one of them")
    if usernames is not None and ticket_key is None:
        raise click.UsageError(
            "--usernames makes a ticket for each user: name its key with --ticket-key KEYFILE "
            "(mfa-worker keygen --ticket -o KEYFILE makes one)"
        )
    if valid_for is not None and usernames is None:
        raise click.UsageError("--valid-for is for tickets that are made here: name the users with --usernames FILE")
    if ticket_key is not None and usernames is None and file is None and roster is not None:
        raise click.UsageError(
            "--ticket-key is for requests, and none is named: mfa-worker push --usernames FILE --ticket-key KEYFILE"
        )
    read = [usernames or file or (None if roster else "-"), roster, ticket_key]
    if read.count("-") > 1:
        raise click.UsageError("standard input cannot be two things at once: name one of them as a file")
    with suppress(OSError):  # whoever reads it says what is wrong
        if ticket_key is not None and any(Path(each).samefile(ticket_key) for each in (usernames, file) if each):
            raise click.UsageError(
                "the key's file is the one with the users, and the key would be pushed as a username: name with "
                "--ticket-key what keygen --ticket made"
            )


@click.command()
@click.option(
    "--state",
    required=True,
    shell_complete=completion.states,
    help="Such as needs_session or failed; or unrequested, of the roster.",
)
@configured
def export(settings: Settings, state: str) -> None:
    """Print the users in a state, with reason, one JSON object a line: add a credential to each and push them again.

    On standard error it says for each reason how many there are, why, and what to do.
    """
    from worker.app import commands
    from worker.app.run import run_async
    from worker.core.causes import UNREQUESTED
    from worker.telemetry import report

    if state == UNREQUESTED:
        found = run_async(commands.export_unrequested(settings, sys.stdout))
    else:
        found = run_async(commands.export(settings, commands.state(state), sys.stdout))
    sys.stdout.flush()  # or, on a terminal, the last lines of users would come after what is said about them
    report.print_lines(commands.exported(state, found), sys.stderr)
