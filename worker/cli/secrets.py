"""The commands ``keygen`` and ``open``, for the person who has the age identity, on a machine without a worker."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.cli.options import CONFIG, SET, load, sources
from worker.core.errors import ExitCode

if TYPE_CHECKING:
    from worker.adapters.aws.session import AwsTarget
    from worker.settings import Settings

STANDARD = Path("-")
"""The name that stands for standard input, or output."""


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
    type=click.Path(path_type=Path, allow_dash=True),
    help="A key file of keygen; -: standard input.",
)
@click.option("--show", is_flag=True, help="Print secrets to a terminal too.")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE", help="Where secrets go, 0600."
)
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
    output: Path | None,
    into: Path | None,
    config: Path | None,
    overrides: tuple[str, ...],
) -> int:
    """Open sealed records: one JSON object a line, the newest of each user.

    FILE may also be SOURCES. Without any, the configured channel's, or standard input where no settings are given.
    """
    from worker.sealing.open import open_sources
    from worker.sealing.output import close_to_others, private_output, refuse_used

    if output in (None, STANDARD):
        output = None
        if sys.stdout.isatty() and not show:
            raise click.UsageError(
                "the secrets would be shown on this terminal: write them with -o FILE, or say --show"
            )
        close_to_others(sys.stdout, "the secrets", "mfa-worker open … -o FILE")
    path, overridden, environ = sources(context, config, overrides)
    given = path or overridden or any(name.startswith("MFA_WORKER_") for name in environ)
    settings = load(context, config, overrides) if given else None
    names = files or ("-" if settings is None else _source(settings),)
    if "-" in names and STANDARD in identities:
        raise click.UsageError("standard input cannot be both the identity and what is opened: name one as a file")
    target = None if settings is None else _target(settings)
    if output is None:
        return open_sources(names, identities, sys.stdout, target=target, into=into)
    config = path or (Path(environ["MFA_WORKER_CONFIG"]) if environ.get("MFA_WORKER_CONFIG") else None)
    refuse_used(output, _used(names, identities, into, config, settings))
    code = ExitCode.DONE
    with private_output(output, unless=lambda: code is not ExitCode.DONE) as out:
        code = open_sources(names, identities, out, target=target, into=into)
    return code


def _used(
    names: Iterable[str], identities: Iterable[Path], into: Path | None, config: Path | None, settings: Settings | None
) -> Iterator[tuple[str, Path]]:
    """Every file that secrets must not be written over, with words for what it is."""
    yield from (("what is opened", Path(name)) for name in names)
    yield from (("an identity file", path) for path in identities)
    if into is not None:
        yield "the file of --into", into
    if config is not None:
        yield "the settings file", config
    if settings is not None:
        yield "the ledger", settings.ledger.path
        yield "the queue", settings.queue.path
        yield "the channel's file", Path(_source(settings))


def _source(settings: Settings) -> str:
    """Return where the configured channel's records are."""
    from worker.adapters import channels

    return channels.kind_of(settings.channel).source(settings.channel)


def _target(settings: Settings) -> AwsTarget:
    """Return where AWS is; a function of its own because the import takes time."""
    from worker.app.stores import aws_target

    return aws_target(settings)


@click.command()
@click.option("--output", "-o", type=click.Path(path_type=Path), metavar="FILE", help="Where the key goes, 0600.")
@click.option("--ticket", is_flag=True, help="Make a key for tickets (push --usernames) instead.")
def keygen(output: Path | None, ticket: bool) -> None:
    """Make an age identity, to be kept away from the worker, and print its recipient, for seal.recipients.

    With --ticket: the key of tickets, which whoever pushes and the pool's trigger have, and the worker has not.
    """
    from datetime import UTC, datetime

    from worker.sealing import age
    from worker.sealing.output import close_to_others

    if output is None:
        if sys.stdout.isatty():
            raise click.UsageError("the secret key would be shown on this terminal: name a file with -o")
        close_to_others(sys.stdout, "the secret key", f"mfa-worker keygen {'--ticket ' if ticket else ''}-o FILE")
    if ticket:
        _keygen_ticket(output)
        return
    text, recipient = age.keygen(datetime.now(UTC).isoformat(timespec="seconds"))
    if output is None:
        click.echo(text, nl=False)
        click.echo(recipient, err=True)
    else:
        age.write_identity(output, text)
        click.echo(recipient)


def _keygen_ticket(output: Path | None) -> None:
    from worker.requests.ticket import new_key
    from worker.sealing import age

    if output is None:
        click.echo(new_key(), nl=False)
        return
    age.write_identity(output, new_key(), "a key")
    click.echo("the pool's trigger needs the same key, in Secrets Manager; no worker needs it", err=True)
