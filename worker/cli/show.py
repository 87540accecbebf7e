"""The command ``show``: all that is known of one user, for the help desk."""

from __future__ import annotations

import json
import shutil
import sys
from typing import TYPE_CHECKING

import click

from worker.cli.options import as_typed, configured
from worker.core.errors import ExitCode

if TYPE_CHECKING:
    from worker.settings import Settings


class _OneUser(click.Command):
    """A command that says how to name a user whose name begins like an option."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See ``click.Command``."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            said = f"{error.format_message()} A username that begins with a dash goes behind two: show -- USER"
            raise click.UsageError(said, ctx) from None


@click.command(cls=_OneUser)
@click.argument("user", metavar="USER")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
@configured
def show(settings: Settings, user: str, as_json: bool) -> int:
    """Show all that is known of one user: the state and why, where the secret lies, what happened, what to do next.

    USER is Cognito's own username, as ListUsers prints it, no alias. Exit 1 where nobody knows the user.
    """
    from worker.app.run import run_async
    from worker.app.show import look_up
    from worker.telemetry import one_user, report

    command = as_typed(settings)
    known = run_async(look_up(settings, user))
    if not known.is_known:
        report.print_lines(one_user.unknown(known, command, settings.cognito.user_pool_id), sys.stderr)
        return ExitCode.SOME_LEFT_OUT
    if as_json:
        click.echo(json.dumps(one_user.as_json(known)))
        return ExitCode.DONE
    makes_tickets = settings.sign_in.flow == "custom_auth"
    width = shutil.get_terminal_size((one_user.LONGEST, 24)).columns
    for line in one_user.lines(known, command, makes_tickets=makes_tickets, width=width):
        click.echo(line)
    return ExitCode.DONE
