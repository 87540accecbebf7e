"""The commands ``run`` and ``rehearse``: the real run, and a run against a fake Cognito."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worker.cli import completion
from worker.cli.options import CONFIG, SET, configured, say_if_terminal, small_pipe, sources
from worker.core.errors import ExitCode

if TYPE_CHECKING:
    from worker.settings import Settings


@click.command()
@click.option(
    "--input",
    "source",
    type=click.Path(allow_dash=True),
    metavar="FILE",
    callback=small_pipe,
    help="Read requests from a file, or from standard input (-).",
)
@click.option("--follow", is_flag=True, help="Go on when the queue is empty, and wait for more requests.")
@click.option(
    "--max-users", type=click.IntRange(min=1), metavar="N", help="Stop after N users (exit 5 if work is left)."
)
@click.option(
    "--tolerate",
    default="0",
    metavar="SHARE",
    help="Exit 0 although users failed or need a new sign-in, up to this share of all, such as 0.5%.",
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write what became of everybody to this file, as JSON.",
)
@click.option(
    "--only",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Work on the users that this file names, one a line, and on nobody else (exit 5 if others wait).",
)
@click.option(
    "--stop-if-failing",
    metavar="SHARE",
    help="Stop (exit 3) when more than this share of the latest 200 users failed or need a new sign-in, such as 5%.",
)
@click.option(
    "--new-rollout", is_flag=True, help="Say once that a rollout begins with a new ledger beside older secrets."
)
@click.option(
    "--accept-recipients", is_flag=True, help="Say once that the rollout seals to others from now on: seal.recipients."
)
@click.option(
    "--dry-run", is_flag=True, help="Change nothing: say what would go wrong, and what the requests are like."
)
@configured
def run(
    settings: Settings,
    source: str | None,
    follow: bool,
    max_users: int | None,
    tolerate: str,
    report: Path | None,
    only: Path | None,
    stop_if_failing: str | None,
    new_rollout: bool,
    accept_recipients: bool,
    dry_run: bool,
) -> int:
    """Enrol everybody who waits on the queue, say what became of them, and end.

    Whoever an earlier run left unfinished is finished first. Interrupted at any moment, it goes on when it is run
    again. Exits 0 where everybody is done, 1 where somebody is left to you, 4 where it was interrupted;
    docs/operations.md has all exit codes.
    """
    from worker.app.run import RunOptions, run_async, run_worker

    failing = None if stop_if_failing is None else _share(stop_if_failing, "--stop-if-failing")
    tolerated = _share(tolerate, "--tolerate")
    if source == "-":
        say_if_terminal()
    if dry_run:
        from worker.setup import checks

        findings = run_async(checks.dry_run(settings, source))
        checks.show(findings, sys.stdout, as_json=False)
        return ExitCode.USAGE if any(finding.fails for finding in findings) else ExitCode.DONE
    options = RunOptions(source, follow, max_users, tolerated, report, only, failing, new_rollout, accept_recipients)
    return run_async(run_worker(settings, options))


@click.command()
@click.option("--users", default=200, type=click.IntRange(min=1), show_default=True, help="How many.")
@click.option(
    "--rate",
    type=click.FloatRange(min=0, min_open=True),
    help="Requests/s; default: 25, or that of your settings.",
)
@click.option(
    "--quota", type=click.FloatRange(min=0, min_open=True), help="What the fake Cognito bears; default: the rate."
)
@click.option(
    "--from",
    "origin",
    type=click.Choice(["usernames", "passwords", "tokens", "sessions"]),
    help="What the users bring; default: tokens, or sessions with --session-validity.",
)
@click.option("--activate", is_flag=True, help="Activate TOTP, and sign everybody in with a code at the end.")
@click.option(
    "--mfa",
    type=click.Choice(["optional", "required"]),
    help="The pool's second factor; default: required with --from sessions, else optional.",
)
@click.option("--credential", type=click.Choice(["token", "session"]), help="The older way to say --from.")
@click.option("--session-validity", metavar="DURATION", help="How long a Session lives, such as 180s or 3m.")
@click.option(
    "--latency", default=0.05, type=click.FloatRange(min=0), show_default=True, help="Seconds an answer takes."
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="NAME=SHARE",
    shell_complete=completion.faults,
    help='Such as conflict=2%, or cut_after/InitiateAuth=1%; "--fault help" lists them.',
)
@click.option("--seed", default=0, show_default=True, help="Where the random numbers begin that choose the faults.")
@click.option(
    "--keep", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Keep what the run wrote."
)
@click.option("--json", "as_json", is_flag=True, help="The proof as one JSON object.")
@CONFIG
@SET
@click.pass_context
def rehearse(
    context: click.Context,
    /,
    keep: Path | None,
    as_json: bool,
    faults: tuple[str, ...],
    config: Path | None,
    overrides: tuple[str, ...],
    **asked: Any,
) -> int:
    """Rehearse the whole job against a fake Cognito on loopback, and prove every delivered secret.

    With a settings file of yours: at its pace, with its way to sign in, its activation, its recipients and what people
    see in their app, but never with its pool, queue, ledger or channel. "--from usernames --activate" is a whole
    rollout: tickets, sign-ins, deliveries, verifications, preferences.

    Exits 0 where everybody is accounted for, every delivered secret is true, and whoever is active can sign in; 1 where
    not; or as "run" does where the faults that were asked for stop it.
    """
    from worker.rehearsal.fake_cognito.faults import described
    from worker.rehearsal.own_settings import own_settings
    from worker.rehearsal.rehearse import rehearse_in
    from worker.rehearsal.scenario import planned
    from worker.telemetry import logs

    if "help" in faults:
        click.echo("\n".join(described()))
        return ExitCode.DONE
    logs.configure()
    path, given, environ = sources(context, config, overrides)
    own = own_settings(path, environ) if path or environ.get("MFA_WORKER_CONFIG") else None
    scenario = planned(faults=faults, overrides=given, own=own, **asked)
    if own is not None:
        click.echo(own.words(), err=True)
    return rehearse_in(scenario, keep, sys.stdout, as_json=as_json)


def _share(text: str, option: str) -> float:
    """Return the number that a share such as ``0.5%`` stands for. Raises ``click.UsageError``."""
    from worker.settings.types import share

    with suppress(ValueError):
        if 0 <= (part := share(text)) <= 1:
            return part
    raise click.UsageError(f"{option} takes a share such as 0.5% or 0.005, not {text!r}")
