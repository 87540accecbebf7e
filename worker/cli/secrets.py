"""The commands ``keygen`` and ``open``, for the person who has the age identity, on a machine without a worker."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worker.cli.options import CONFIG, SET, load, sources
from worker.core.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from worker.adapters.aws.session import AwsTarget
    from worker.app.recorded import RecordedSecrets
    from worker.handout.hand_out import Wanted
    from worker.sealing.newest import Progress, Take
    from worker.settings import Settings

STANDARD = Path("-")
"""The name that stands for standard input, or output."""

PLACE = click.Path(path_type=Path)
"""The type of a path that the command itself looks at."""


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
    help="A key file: age's, SSH, of a plugin; -: standard input.",
)
@click.option("--show", is_flag=True, help="Print secrets to a terminal too.")
@click.option(
    "--output", "-o", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE", help="Where secrets go, 0600."
)
@click.option("--user", "users", multiple=True, metavar="NAME", help="Only this user; may be repeated.")
@click.option(
    "--since", metavar="TIME", help="Only secrets issued since then: 2026-11-25, 2026-11-25T08:00Z, or 24h ago."
)
@click.option("--qr", type=PLACE, metavar="DIR", help="A QR code of each user, SVG, and index.csv.")
@click.option("--png", is_flag=True, help="QR codes as PNG.")
@click.option("--letters", type=PLACE, metavar="FILE.pdf", help="A letter to each user, a page each.")
@click.option("--language", metavar="en|de", help="The letters' language; default: en.")
@click.option("--template", type=PLACE, metavar="DIR", help="How letters look: a copy by letters-template.")
@click.option("--until", metavar="DATE", help="The letters ask people to be done by then: 2026-12-31.")
@click.option("--csv", type=PLACE, metavar="FILE", help="A row a user: secret, URI, attributes.")
@click.option(
    "--into",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where a queue's messages are moved to, sealed.",
)
@click.option("--against-ledger", is_flag=True, help="Only records that the ledger of the settings knows.")
@CONFIG
@SET
@click.pass_context
def open_(
    context: click.Context,
    /,
    files: tuple[str, ...],
    identities: tuple[Path, ...],
    show: bool,
    output: Path | None,
    users: tuple[str, ...],
    since: str | None,
    into: Path | None,
    against_ledger: bool,
    config: Path | None,
    overrides: tuple[str, ...],
    **asked: Any,
) -> int:
    """Open sealed records: one JSON object a line, the newest of each user.

    FILE may also be SOURCES. Without any, the configured channel's, or standard input where no settings are given.
    With --qr, --letters or --csv nothing goes to standard output.
    """
    import time

    from worker.handout.chosen import Chosen
    from worker.handout.chosen import since as moment
    from worker.handout.hand_out import hand_out
    from worker.sealing.open import as_lines, open_sources
    from worker.sealing.output import close_to_others, ends_as_interrupt, private_output, refuse_used

    chosen = Chosen(users, None if since is None else moment(since, time.time()))
    wanted = _wanted(**asked)
    if wanted.any and (show or output == STANDARD):
        raise click.UsageError(
            f"{' and '.join(wanted.paths)} write files, and nothing goes to standard output then: "
            f"leave {'--show' if show else '-o -'} out"
        )
    if output in (None, STANDARD) and not wanted.any:
        output = None
        if sys.stdout.isatty() and not show:
            raise click.UsageError(
                "the secrets would be shown on this terminal: write them with -o FILE, or say --show"
            )
        close_to_others(sys.stdout, "the secrets", "mfa-worker open … -o FILE")
    path, overridden, environ = sources(context, config, overrides)
    given = path or overridden or any(name.startswith("MFA_WORKER_") for name in environ)
    settings = load(context, config, overrides) if given else None
    ledger = _ledger(settings, users) if against_ledger else None
    names = files or ("-" if settings is None else _source(settings),)
    if "-" in names and STANDARD in identities:
        raise click.UsageError("standard input cannot be both the identity and what is opened: name one as a file")
    target = None if settings is None else _target(settings)
    config = path or (Path(environ["MFA_WORKER_CONFIG"]) if environ.get("MFA_WORKER_CONFIG") else None)
    used = list(_used(names, identities, into, config, settings))
    for option, place in wanted.paths.items():
        refuse_used(place, [*used, *([("the file of -o", output)] if output else [])], option)
    if output is not None:
        refuse_used(output, used)

    def opening(take: Take, progress: Progress) -> ExitCode:
        return open_sources(
            names,
            identities,
            take,
            target=target,
            into=into,
            users=chosen.hashes,
            progress=progress,
            ledger=ledger,
        )

    with ends_as_interrupt():
        wanted.check()
        if output is None:
            return hand_out(opening, chosen, wanted, None if wanted.any else as_lines(sys.stdout))
        code = ExitCode.DONE
        with private_output(output, unless=lambda: code is not ExitCode.DONE) as out:
            code = hand_out(opening, chosen, wanted, as_lines(out))
    return code


def _wanted(
    qr: Path | None,
    png: bool,
    letters: Path | None,
    language: str | None,
    template: Path | None,
    until: str | None,
    csv: Path | None,
) -> Wanted:
    """Return what is to be handed out. Raises ``UsageError`` where options contradict each other."""
    from worker.handout.chosen import day
    from worker.handout.hand_out import Wanted

    for option, place in (("--qr", qr), ("--letters", letters), ("--csv", csv)):
        if place == STANDARD:
            raise click.UsageError(f"{option} writes a place of its own, and not standard output: name one")
    if png and qr is None:
        raise click.UsageError("--png is the form of QR codes: name a folder with --qr DIR")
    for option, value in (("--language", language), ("--template", template), ("--until", until)):
        if value is not None and letters is None:
            raise click.UsageError(f"{option} is about letters: name a file with --letters FILE.pdf")
    style = None
    if letters is not None:
        from worker.handout.letters import Style
        from worker.handout.template import load as load_template

        style = Style(load_template(template, language or "en"), None if until is None else day(until))
    return Wanted(qr, "png" if png else "svg", letters, style, csv)


@click.command(name="letters-template")
@click.argument("folder", metavar="DIR", type=PLACE)
def letters_template(folder: Path) -> None:
    """Copy the folder that says how letters look, to be changed and named with open --letters … --template DIR."""
    from worker.handout.template import copy_ours

    copy_ours(folder)
    click.echo(f"change {folder}/letter.toml (who you are), en.toml and de.toml (the words), letter.typ (the page)")


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


def _ledger(settings: Settings | None, users: Sequence[str]) -> RecordedSecrets:
    """Return the ledger to compare with. Raises ``UsageError`` where no settings name one."""
    if settings is None:
        raise UsageError(
            "--against-ledger compares with the ledger that the settings name, and no settings are given",
            "name them: -c FILE; where the ledger is a copy, also --set ledger.path=COPY",
        )
    from worker.app.recorded import RecordedSecrets

    return RecordedSecrets(settings, users or None)


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
