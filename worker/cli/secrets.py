"""What the holder of the identity does: keygen, open."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from worker.cli.settings import CONFIG, SET, load, sources


@click.command(name="open")
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


@click.command()
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
