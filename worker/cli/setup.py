"""The commands to use before the first run: ``init``, ``check`` and ``config show``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.cli.options import CONFIG, SET, configured, sources
from worker.core.errors import ExitCode

if TYPE_CHECKING:
    from worker.settings import Settings


@click.command()
@click.option("--cloudformation", is_flag=True, help="Print a template for the same instead, and make nothing.")
@configured
def init(settings: Settings, cloudformation: bool) -> None:
    """Make what the settings name and AWS does not have yet: queues, table, bucket. Changes nothing that is there."""
    from worker.app.run import run_async
    from worker.setup.init import cloudformation_template, create_missing

    if cloudformation:
        click.echo(cloudformation_template(settings), nl=False)
    else:
        run_async(create_missing(settings, sys.stdout))


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
