"""The commands at the end of a rollout: what is needed no more is erased, then everything is taken away."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.cli.options import configured
from worker.core.errors import ExitCode

if TYPE_CHECKING:
    from worker.app.ending.plan import Item, Plan
    from worker.settings import Settings


@click.command()
@click.option("--yes", "act", is_flag=True, help="Do it; without this option nothing is changed.")
@click.option(
    "--even-unfinished",
    is_flag=True,
    help="Also while requests wait: they are lost. Unfinished users stay as they are.",
)
@click.option(
    "--activations", is_flag=True, help="Also what lets the activation of users go on who are delivered with a reason."
)
@configured
def purge(settings: Settings, act: bool, even_unfinished: bool, activations: bool) -> int:
    """Show what is secret or personal and needed no more, and with --yes erase it; the ledger's states stay.

    That is: sealed records of users who are done, requests on the queue, dead letters, the list of malformed messages.
    It may be interrupted and done again. Exit 2 while a worker is at work, or somebody is not finished.
    """
    from worker.app.ending.purge import purge as purged
    from worker.app.run import run_async

    def show(plan: Plan) -> None:
        with suppress(*([BrokenPipeError] if act else [])):  # who asked for it need not read on
            _print_plan(plan, "is erased")

    plan = run_async(
        purged(settings, act=act, even_unfinished=even_unfinished, activations=activations, show=show, tell=_tell)
    )
    return _print_end(plan, "mfa-worker purge --yes", act=act)


@click.command()
@click.option("--yes", "act", is_flag=True, help="Do it; without this option nothing is changed.")
@click.option(
    "--even-unfinished", is_flag=True, help="Also while requests wait or users are not finished: they are lost."
)
@click.option(
    "--app-client", metavar="ID", help="Delete the rollout's app client too; its id must be that of sign_in.client_id."
)
@click.option(
    "--report",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Where to write each user's state, without secrets; default: decommissioned-POOL.json here.",
)
@configured
def decommission(
    settings: Settings, act: bool, even_unfinished: bool, app_client: str | None, report: Path | None
) -> int:
    """Show what this rollout made, and with --yes take it away: triggers, queues, what was delivered, the ledger last.

    A reconciliation without secrets is written before. It may be interrupted and done again, with the same settings.
    Exit 2 while a worker is at work or somebody is not finished; 1 if something is left.
    """
    from worker.app.ending.decommission import Options
    from worker.app.ending.decommission import decommission as decommissioned
    from worker.app.run import run_async

    def show(plan: Plan) -> None:
        with suppress(*([BrokenPipeError] if act else [])):
            _print_plan(plan, "is taken away, in this order")

    options = Options(act, even_unfinished, app_client, report)
    plan = run_async(decommissioned(settings, options, show=show, tell=_tell))
    return _print_end(plan, "mfa-worker decommission --yes", act=act)


def _tell(line: str) -> None:
    click.echo(line, err=True)


def _print_plan(plan: Plan, removed: str) -> None:
    for heading, items in ((removed, plan.removes), ("stays", plan.stays)):
        if items:
            click.echo(f"What {heading}:")
        for item in items:
            _print_item(item)
    for said, cure in plan.in_the_way:
        click.echo(f"In the way: {said}\n  → {cure}")


def _print_item(item: Item) -> None:
    click.echo(f"  {item.what}: {item.where}")
    if item.note:
        click.echo(f"    {item.note}")


def _print_end(plan: Plan, again: str, *, act: bool) -> int:
    """Say what was done, and what not; return the exit code: that of the worst trouble, 2 if something forbids it."""
    for trouble in plan.troubles:
        click.echo(f"mfa-worker: {trouble}\n  → {trouble.hint}", err=True)
    for said, cure in plan.left:
        click.echo(f"left: {said}\n  → {cure}", err=True)
    for line in plan.done:
        click.echo(line)
    codes = {trouble.exit_code for trouble in plan.troubles}
    worst = next((code for code in (ExitCode.PERSON_MUST_ACT, ExitCode.DEPENDENCY_UNAVAILABLE) if code in codes), None)
    if plan.in_the_way:
        click.echo("nothing was changed" + (": something is in the way, see above" if act else ""))
        return worst or ExitCode.USAGE
    if not act and plan.removes:
        click.echo(f"nothing was changed; to do this: {again}")
    return worst or (ExitCode.SOME_LEFT_OUT if codes or plan.left else ExitCode.DONE)
