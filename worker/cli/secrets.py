"""The commands ``keygen`` and ``open``, for the person who has the age identity, on a machine without a worker."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.cli.options import CONFIG, SET, load, sources

if TYPE_CHECKING:
    from worker.adapters.aws.session import AwsTarget
    from worker.settings import Settings


class Open(click.Command):
    """The command ``open``. It lists the channels' sources in its help only when help is asked for, because importing
    the channels takes time.
    """

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """See ``click.Command``."""
        from worker.adapters import channels

        kinds = [kind for kind in channels.kinds().values() if kind.scheme]
        *forms, last = [f"{kind.source_form} with --into" if kind.moved_from else kind.source_form for kind in kinds]
        self.help = (self.help or "").replace("SOURCES", f"{', '.join(forms)}, or {last}")
        super().format_help_text(ctx, formatter)


@click.command(name="open", cls=Open)
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
@click.option(
    "--into",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where a queue's messages are moved to, sealed.",
)
@CONFIG
@SET
@click.pass_context
def open_(
    context: click.Context,
    files: tuple[str, ...],
    identities: tuple[Path, ...],
    show: bool,
    into: Path | None,
    config: Path | None,
    overrides: tuple[str, ...],
) -> int:
    """Open sealed records: one JSON object a line, the newest of each user.

    FILE may also be SOURCES. Without any, the configured channel's, or standard input where no settings are given.
    """
    from worker.sealing.open import open_sources

    if sys.stdout.isatty() and not show:
        raise click.UsageError("the secrets would be shown on this terminal: redirect the output, or say --show")
    path, overridden, environ = sources(context, config, overrides)
    given = path or overridden or any(name.startswith("MFA_WORKER_") for name in environ)
    if not given:
        return open_sources(files or ("-",), identities, sys.stdout, into=into)
    settings = load(context, config, overrides)
    names = files or (_source(settings),)
    return open_sources(names, identities, sys.stdout, target=_target(settings), into=into)


def _source(settings: Settings) -> str:
    """Return where the configured channel's records are."""
    from worker.adapters import channels

    return channels.kind_of(settings.channel).source(settings.channel)


def _target(settings: Settings) -> AwsTarget:
    """Return where AWS is; a function of its own because the import takes time."""
    from worker.app.stores import aws_target

    return aws_target(settings)


@click.command()
@click.option("--output", "-o", type=click.Path(path_type=Path), metavar="FILE", help="Where the identity goes, 0600.")
def keygen(output: Path | None) -> None:
    """Make an age identity, to be kept away from the worker, and print its recipient, for seal.recipients."""
    from datetime import UTC, datetime

    from worker.sealing import age

    if output is None and sys.stdout.isatty():
        raise click.UsageError("the secret key would be shown on this terminal: name a file with -o")
    text, recipient = age.keygen(datetime.now(UTC).isoformat(timespec="seconds"))
    if output is None:
        click.echo(text, nl=False)
        click.echo(recipient, err=True)
    else:
        age.write_identity(output, text)
        click.echo(recipient)
