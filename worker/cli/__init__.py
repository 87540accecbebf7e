"""The command line of ``mfa-worker``: its commands, their options, what they print, and their exit codes.

What a command does is in ``app``, ``setup``, ``sealing`` and ``rehearsal``. A command imports these only when it is
run, so that ``--help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

import click

from worker.adapters.core_dumps import forbid_core_dumps
from worker.adapters.limits import NO_ROOM, room
from worker.cli import completion, ending, health, repair, report, requests, run, secrets, setup, show, status
from worker.cli.first import next_steps
from worker.cli.group import Commands, help_
from worker.cli.interrupted import end_by_signals_as_by_ctrl_c, ignore_signals, interrupted
from worker.cli.options import CONFIG, SET
from worker.core.errors import DependencyUnavailable, ExitCode, WorkerError

PRIVATE = 0o077
"""The umask of every command and of the processes that it starts: whatever they make is this user's alone."""


@click.group(
    cls=Commands,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="mfa-worker")
@CONFIG
@SET
@click.pass_context
def cli(context: click.Context, config: Path | None, overrides: tuple[str, ...]) -> int:  # noqa: ARG001
    """Enrol a whole Amazon Cognito user pool in TOTP multi-factor authentication.

    Each user's request waits on a queue. The worker signs in where it has to, calls AssociateSoftwareToken within the
    quota, writes each secret, sealed, to the delivery channel, and activates it where that is asked.
    """  # config and overrides may stand before the command, which asks the context for them
    if context.invoked_subcommand is None:
        for line in next_steps(config, os.environ):
            click.echo(line, err=True)
        return ExitCode.USAGE  # no result: a script that lost the command's name must not take it for one
    if context.invoked_subcommand not in ("help", "completion", "health"):
        from worker.settings.environment import refuse_key_log  # takes a while

        refuse_key_log(os.environ)
    return ExitCode.DONE


for command in (
    *(run.run, run.rehearse),
    *(requests.push, status.status, requests.export, report.report, show.show, health.health),
    *(secrets.keygen, secrets.open_, secrets.letters_template),
    *(repair.recover, repair.redrive, repair.dismiss, repair.redeliver),
    *(ending.purge, ending.decommission),
    *(setup.init, setup.check, setup.config),
    *(completion.completion, help_),
):
    cli.add_command(command)


def main() -> NoReturn:
    """Run a command and end the process with its exit code."""
    try:
        _complete_streams()  # before all that may open a file, such as ctypes, whose library keeps itself open
        end_by_signals_as_by_ctrl_c()
        forbid_core_dumps()
        os.umask(PRIVATE)
        code = cli.main(standalone_mode=False)
        sys.stdout.flush()
    except (click.exceptions.Abort, KeyboardInterrupt):
        code = _print_error(interrupted(sys.argv[1:]))
    except click.ClickException as error:
        if isinstance(error, click.MissingParameter) and isinstance(error.param, click.Option):
            error = click.MissingParameter(error.param.help, error.ctx, error.param)  # says what to write there
        with suppress(OSError):
            error.show()
        code = ExitCode.USAGE
    except WorkerError as error:
        code = _print_error(error)
    except (BrokenPipeError, SystemExit):  # click turns a broken pipe into SystemExit
        code = ExitCode.DONE  # the reader of the output has ended, which is no error
        _discard_output()
    except Exception as error:  # noqa: BLE001 - the last handler: every other exception is a bug
        if getattr(error, "errno", 0) in NO_ROOM:
            _discard_output()
            code = _print_error(DependencyUnavailable("cannot write: the disk is full, or a limit is reached", room()))
        else:
            code = _report_bug()
    ignore_signals()  # Python takes a moment to end, and the exit code says what was done
    sys.exit(int(code or 0))


def _discard_output() -> None:
    """Send what is still buffered for standard output nowhere, so that Python does not fail to write it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _complete_streams() -> None:
    """Open the standard streams that were closed when this process was started.

    Otherwise the first file that is opened, perhaps a database, would get the number of such a stream, and messages
    would be written into it.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free, which is this one
            setattr(sys, name, os.fdopen(descriptor, mode, closefd=False))
    sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]


def _print_error(error: WorkerError) -> ExitCode:
    """Print what went wrong and what to do about it; return the error's exit code."""
    with suppress(OSError):
        click.echo(f"mfa-worker: {error}", err=True)
        if error.hint:
            click.echo(f"  → {error.hint}", err=True)
    return error.exit_code


def _report_bug() -> ExitCode:
    """Log the exception as a bug, without secrets, even if no command has set up logging before."""
    import structlog

    from worker.telemetry import logs

    if not structlog.is_configured():
        logs.configure()
    structlog.get_logger().exception("bug")
    return ExitCode.BUG
