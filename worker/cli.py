"""The commands, thin: what they take and print. What they do is elsewhere, imported only when it is asked for."""

from __future__ import annotations

import errno
import json
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from worker.cli_settings import CONFIG, SET, configured, load, sources
from worker.errors import DependencyAway, ExitCode, WorkerError

if TYPE_CHECKING:
    from worker.settings import Settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mfa-worker")
@CONFIG
@SET
def cli(config: Path | None, overrides: tuple[str, ...]) -> None:
    """Enrol a whole Amazon Cognito user pool in TOTP multi-factor authentication.

    A migration script signs users in and pushes their sessions; the worker calls AssociateSoftwareToken for each,
    within the quota, and writes each secret, sealed, to the delivery channel. Begin with "mfa-worker rehearse".
    """


@cli.command()
@click.option("--input", "source", metavar="FILE", help="Read requests from a file, or from standard input (-).")
@click.option("--follow", is_flag=True, help="Stay when the queue is empty.")
@click.option(
    "--max-users", type=click.IntRange(min=1), metavar="N", help="Stop after N users (exit 5 if work is left)."
)
@click.option("--tolerate", default="0", metavar="SHARE", help="Failures that still exit 0, such as 0.5%.")
@click.option(
    "--report", type=click.Path(dir_okay=False, path_type=Path), help="Write the reconciliation to this file, as JSON."
)
@configured
def run(
    settings: Settings, source: str | None, follow: bool, max_users: int | None, tolerate: str, report: Path | None
) -> int:
    """Finish what the ledger holds unfinished, drain the queue, reconcile, and exit."""
    from worker import job

    options = job.RunOptions(source, follow, max_users, _share(tolerate), report)
    return job.run_async(job.run(settings, options))


@cli.command()
@click.argument("file", default="-", type=click.Path(path_type=str, allow_dash=True))
@configured
def push(settings: Settings, file: str) -> int:
    """Put requests (JSON lines of FILE, or of standard input) on the queue. Exit 1 if any was malformed."""
    from worker import commands, job

    with _binary(file) as stream:
        pushed = job.run_async(commands.push(settings, stream))
    click.echo(f"accepted {pushed.accepted}, duplicate {pushed.duplicates}, malformed {sum(pushed.malformed.values())}")
    for reason, number in sorted(pushed.malformed.items()):
        click.echo(f"malformed: {number} × {reason}", err=True)
    return ExitCode.SOME_LEFT_OUT if pushed.malformed else ExitCode.DONE


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
@configured
def status(settings: Settings, as_json: bool) -> None:
    """Say who stands where: the ledger's states, counted, and what waits."""
    from worker import commands, job
    from worker.telemetry import report

    census, backlog = job.run_async(commands.status(settings))
    if as_json:
        click.echo(json.dumps(report.status(census, backlog)))
    else:
        report.print_table(census, backlog, None, sys.stdout, quota=settings.rate.effective)


@cli.command()
@click.option("--state", required=True, help="Such as needs_session or failed.")
@configured
def export(settings: Settings, state: str) -> None:
    """Print the users in a state, with reason, one JSON object a line: add a credential to each and push them again."""
    from worker import commands, job

    job.run_async(commands.export(settings, commands.state(state), sys.stdout))


@cli.command(name="open")
@click.argument("files", nargs=-1, metavar="[FILE]...", type=click.Path(path_type=str, allow_dash=True))
@click.option(
    "--identity",
    "-i",
    "identities",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    help="A key file of keygen.",
)
@click.option("--show", is_flag=True, help="Print secrets to a terminal too.")
@CONFIG
@SET
@click.pass_context
def open_(
    context: click.Context,
    files: tuple[str, ...],
    identities: tuple[Path, ...],
    show: bool,
    config: Path | None,
    overrides: tuple[str, ...],
) -> int:
    """Open sealed records: one JSON object a line, the newest of each user.

    Without FILE, the configured file channel's, or standard input where no settings are given.
    """
    from worker import opening

    if sys.stdout.isatty() and not show:
        raise click.UsageError("the secrets would be shown on this terminal: redirect the output, or say --show")
    names = files
    if not names:
        path, overridden, environ = sources(context, config, overrides)
        given = path or overridden or any(name.startswith("MFA_WORKER_") for name in environ)
        names = (str(load(context, config, overrides).channel.path),) if given else ("-",)
    return opening.open_files(names, identities, sys.stdout)


@cli.command()
@click.option("--output", "-o", type=click.Path(path_type=Path), metavar="FILE", help="Where the identity goes, 0600.")
def keygen(output: Path | None) -> None:
    """Make an age identity, to be kept away from the worker, and print its recipient, for seal.recipients."""
    from datetime import UTC, datetime

    from worker import sealing

    if output is None and sys.stdout.isatty():
        raise click.UsageError("the secret key would be shown on this terminal: name a file with -o")
    text, recipient = sealing.keygen(datetime.now(UTC).isoformat(timespec="seconds"))
    if output is None:
        click.echo(text, nl=False)
        click.echo(recipient, err=True)
    else:
        sealing.write_identity(output, text)
        click.echo(recipient)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
@configured
def check(settings: Settings, as_json: bool) -> int:
    """Say, before anything is touched, what would go wrong."""
    from worker import checks, job

    findings = job.run_async(checks.check(settings))
    checks.show(findings, sys.stdout, as_json=as_json)
    return ExitCode.USAGE if any(finding.fails for finding in findings) else ExitCode.DONE


@cli.command()
@click.option("--users", default=200, type=click.IntRange(min=1), show_default=True, help="How many.")
@click.option(
    "--rate", default=25.0, type=click.FloatRange(min=0, min_open=True), show_default=True, help="Requests/s."
)
@click.option(
    "--quota", type=click.FloatRange(min=0, min_open=True), help="What the stand-in bears; default: the rate."
)
@click.option(
    "--credential", type=click.Choice(["token", "session"]), help="Default: token, or session with --session-validity."
)
@click.option("--session-validity", metavar="DURATION", help="How long a Session lives, such as 180s or 3m.")
@click.option(
    "--latency", default=0.05, type=click.FloatRange(min=0), show_default=True, help="Seconds an answer takes."
)
@click.option(
    "--fault", "faults", multiple=True, metavar="NAME=SHARE", help='Such as conflict=2%; "--fault help" lists them.'
)
@click.option("--seed", default=0, show_default=True, help="For the dice that roll the faults.")
@click.option(
    "--keep", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Keep what the run wrote."
)
@click.option("--json", "as_json", is_flag=True, help="The proof as one JSON object.")
@SET
def rehearse(
    keep: Path | None, session_validity: str | None, credential: str | None, as_json: bool, **asked: Any
) -> int:
    """Rehearse the whole job against a stand-in for Cognito on loopback, and prove every delivered secret.

    Exits 0 where everybody is accounted for and every delivered secret is true, 1 where not; or as "run" does where the
    faults that were asked for stop it.
    """
    from worker.rehearsal import scenario
    from worker.telemetry import logs

    logs.configure()
    return scenario.rehearse_in(
        scenario.planned(credential=credential, session_validity=session_validity, **asked),
        keep,
        sys.stdout,
        as_json=as_json,
    )


@cli.group()
def config() -> None:
    """Look at the settings."""


@config.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")
@CONFIG
@SET
@click.pass_context
def show(context: click.Context, as_json: bool, config: Path | None, overrides: tuple[str, ...]) -> None:
    """Print every setting as it is in effect, and where it came from; secrets are masked."""
    from worker.settings import explain

    for row in explain(*sources(context, config, overrides)):
        if as_json:
            click.echo(json.dumps({"key": row.key, "value": row.value, "source": row.source}))
        else:
            unset = "" if row.value else "# "
            click.echo(f"{unset}{row.key} = {row.value}  # {row.source}")


def _share(text: str) -> float:
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise click.UsageError(f"--tolerate takes a share such as 0.5% or 0.005, not {text!r}")
    return share


def _binary(file: str) -> Any:
    try:
        return click.open_file(file, "rb")
    except OSError as error:
        raise click.UsageError(f"cannot read {file}: {error.strerror}") from None


def main() -> NoReturn:
    """Run a command and end the process with its exit code."""
    _complete_streams()
    try:
        code = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except click.exceptions.Abort:
        code = ExitCode.INTERRUPTED
    except click.ClickException as error:
        with suppress(OSError):
            error.show()
        code = ExitCode.USAGE
    except WorkerError as error:
        code = _complain(error)
    except (BrokenPipeError, SystemExit):  # click's own answer to a broken pipe is SystemExit
        code = ExitCode.DONE  # whoever read us has gone, and nobody is to be told
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:  # noqa: BLE001 - the last one to be told
        if full := getattr(error, "errno", 0) in (errno.ENOSPC, errno.EDQUOT):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = _complain(DependencyAway("cannot write: the disk is full", "free space")) if full else _confess()
    sys.exit(int(code or 0))


def _complete_streams() -> None:
    """Whoever starts us may have closed what every process has: no database may ever stand in its place."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _complain(error: WorkerError) -> ExitCode:
    with suppress(OSError):
        click.echo(f"mfa-worker: {error}", err=True)
        if error.hint:
            click.echo(f"  → {error.hint}", err=True)
    return error.exit_code


def _confess() -> ExitCode:
    """Log a bug, by the chain that shows no secret, also where a command did not set it up."""
    import structlog

    from worker.telemetry import logs

    if not structlog.is_configured():
        logs.configure()
    structlog.get_logger().exception("bug")
    return ExitCode.BUG
