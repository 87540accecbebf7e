"""The commands to use before the first run: ``init``, ``check`` and ``config show``."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.cli.options import CONFIG, SET, configured, load, sources
from worker.core.errors import ExitCode
from worker.core.recipients import recipients
from worker.core.shell import quoted

if TYPE_CHECKING:
    from worker.settings import Settings


@click.command()
@click.option("--pool", metavar="ID", help="The user pool to enrol, such as eu-central-1_AbCdEfGhI.")
@click.option("--issuer", metavar="NAME", help="The name of your service, as people see it in their app.")
@click.option(
    "--recipient",
    "recipients",
    multiple=True,
    metavar="age1…",
    help="A public key that may open the secrets; without any, a key pair is made.",
)
@click.option(
    "--folder", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", help="Where to write; default: here."
)
@click.option("--cloudformation", is_flag=True, help="On AWS: print a template for the same instead, and make nothing.")
@CONFIG
@SET
@click.pass_context
def init(
    context: click.Context,
    pool: str | None,
    issuer: str | None,
    recipients: tuple[str, ...],
    folder: Path | None,
    cloudformation: bool,
    config: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Write a commented settings file and a key pair for one host; it asks for what no option says.

    Where settings are given (--config, or the environment): make what they name and AWS does not have yet, queues,
    table and bucket. Neither changes anything that is there.
    """
    path, given, environ = sources(context, config, overrides)
    writes = bool(pool is not None or issuer is not None or recipients or folder)
    if writes and (path or given or cloudformation):
        raise click.UsageError(
            "--pool, --issuer, --recipient and --folder write a new settings file; --config, --set and "
            "--cloudformation are for what existing settings name on AWS: leave out one of the two"
        )
    named = path or given or any(name.startswith("MFA_WORKER_") and name != "MFA_WORKER_STATE" for name in environ)
    if writes or not (named or cloudformation):
        _write_first_settings(pool, issuer, recipients, folder or Path())
    else:
        _make_on_aws(load(context, config, overrides), cloudformation=cloudformation)


def _make_on_aws(settings: Settings, *, cloudformation: bool) -> None:
    from worker.app.run import run_async
    from worker.setup.init import cloudformation_template, create_missing
    from worker.telemetry import logs

    logs.configure(settings.log.format, settings.log.level)
    if cloudformation:
        click.echo(cloudformation_template(settings), nl=False)
    else:
        run_async(create_missing(settings, sys.stdout))


def _write_first_settings(pool: str | None, issuer: str | None, recipients: tuple[str, ...], folder: Path) -> None:
    from worker.cli.asking import answers
    from worker.setup import first_settings as first

    try:
        first.refuse_unfit(folder, makes_key=not recipients)
        told = answers(pool, issuer, recipients)
        settings, *keys = first.write(told, folder)
    except (click.Abort, KeyboardInterrupt):
        click.echo("\nnothing was made", err=True)
        raise click.Abort from None
    click.echo(f"made {settings}: settings for {told.pool}, explained by its comments")
    for key in keys:
        click.echo(f"made {key}: opens every secret of this rollout. Before the first real run, move it to where")
        click.echo("  letters are printed, off this machine, and keep a copy: if it is lost, so is every secret")
    for note in first.notes(told, os.environ):
        click.echo(f"note: {note}", err=True)
    named = quoted(str(folder / settings.name))
    click.echo("\nNext:")
    click.echo(f"  mfa-worker rehearse -c {named}  # the whole job with these settings, without AWS")
    click.echo(f"  mfa-worker check -c {named}     # what would go wrong with the real pool; changes nothing")


@click.command()
@click.option(
    "--identity",
    "-i",
    "identities",
    multiple=True,
    type=click.Path(path_type=Path, allow_dash=True),
    help="A key file that must open what is sealed; -: standard input.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts.")
@configured
def check(settings: Settings, identities: tuple[Path, ...], as_json: bool) -> int:
    """Say, before anything is touched, what would go wrong."""
    from worker.app.run import run_async
    from worker.setup import checks

    findings = run_async(checks.check(settings, identities))
    checks.show(findings, sys.stdout, as_json=as_json)
    return ExitCode.USAGE if any(finding.fails for finding in findings) else ExitCode.DONE


@click.group()
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
            for line in _about(row.key, row.value):
                click.echo(f"#   {line}")


def _about(key: str, value: str) -> Iterator[str]:
    """Yield what is to be known of a setting's value: whose public keys those are."""
    if key != "seal.recipients":
        return
    for number, each in enumerate(recipients(json.loads(value or "[]")), 1):
        missing = each.plugin and shutil.which(f"age-plugin-{each.plugin}") is None
        yield f"{number}: {each.words}, {each.short}" + (
            f"; age-plugin-{each.plugin} is not on the PATH here: install it where the worker runs" if missing else ""
        )
