"""The commands that put a rollout in order by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from worker.cli.options import binary, configured
from worker.core.errors import ExitCode
from worker.core.text import shortened

if TYPE_CHECKING:
    from worker.app.repair.lost_identity import GivenUp
    from worker.app.repair.recover import Plan
    from worker.app.repair.users import Told
    from worker.settings import Settings


@click.command()
@click.option("--yes", "act", is_flag=True, help="Do it; without this option nothing is changed.")
@click.option(
    "--from",
    "files",
    multiple=True,
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="More delivered lines: a part of the channel's file that was moved away, or a queue's messages.",
)
@click.option(
    "--doubt",
    type=click.Path(dir_okay=False, exists=True, path_type=Path),
    metavar="FILE",
    help="Users, one a line, whose secret was being replaced since the copy was made; for a table on DynamoDB.",
)
@click.option("--lost-identity", is_flag=True, help="Give up what is sealed to activation.identity, which is lost.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts; with all users in doubt.")
@configured
def recover(
    settings: Settings, act: bool, files: tuple[Path, ...], doubt: Path | None, lost_identity: bool, as_json: bool
) -> None:
    """Show what a ledger needs that was restored from an older copy, and with --yes do it.

    It reads what the channel shows, which needs the rights of whoever opens the secrets, but no key.
    """
    from worker.app.repair.lost_identity import give_up
    from worker.app.repair.recover import recover as recovered
    from worker.app.run import run_async

    if lost_identity:
        if files or doubt or as_json:
            raise click.UsageError("--lost-identity stands alone, or with --yes")
        _print_given_up(run_async(give_up(settings, act=act)))
        return
    plan = run_async(recovered(settings, files=files, doubt=doubt, act=act))
    if as_json:
        click.echo(json.dumps(_as_json(plan)))
    else:
        _print(plan, is_shared=settings.ledger.kind != "sqlite" and doubt is None)


def _print_given_up(found: GivenUp) -> None:
    click.echo(
        f"the ledger is bound to the activation identity of {found.recipient}"
        if found.recipient
        else "the ledger is bound to no activation identity"
    )
    for named, what in (
        (found.delivered, "are delivered, and nobody can go on with their activation; push a new credential for each"),
        (found.others, "need a new sign-in, or are just being enrolled again"),
    ):
        if named.total:
            click.echo(f"{named.total:,} users {what}: {', '.join(named.lines())}")
    if found.done:
        click.echo("done; the next run binds the ledger to its own identity: mfa-worker run")
    elif found.recipient or found.delivered.total or found.others.total:
        click.echo("nothing was changed; to give that up: mfa-worker recover --lost-identity --yes")


def _as_json(plan: Plan) -> dict[str, object]:
    return {
        "older": plan.older,
        "records": plan.records,
        "unreadable": plan.unreadable,
        "without_name": plan.without_name,
        "delivered": plan.delivered,
        "added": plan.added,
        "in_doubt": plan.in_doubt,
        "damaged": plan.damaged,
        "missing": plan.missing,
        "unknown": plan.unknown,
        "done": plan.done,
    }


def _print(plan: Plan, *, is_shared: bool) -> None:
    told = {
        f"  {plan.unreadable:,} lines or objects there are no records": plan.unreadable,
        f"  {plan.without_name:,} of them have no row, and only a hash of their names is known": plan.without_name,
        "every row is up to date with that": plan.is_empty,
        f"{plan.delivered:,} users become delivered, with the newest secret that the channel shows": plan.delivered,
        f"{plan.added:,} users get a row: delivered": plan.added,
        f"  such as {', '.join(map(repr, plan.examples))}": plan.examples,
        f"{len(plan.in_doubt):,} users are in doubt, because {_why_in_doubt(plan)}; they become "
        f"needs_session: reply_lost": plan.in_doubt,
        f"  {', '.join(shortened([*map(repr, plan.in_doubt)]))} (--json names all)": plan.in_doubt,
        f"neither ledger nor channel knows {len(plan.unknown):,} users of --doubt; are they spelt right? "
        f"{', '.join(shortened([*map(repr, plan.unknown)]))}": plan.unknown,
        "nobody is named outside a table: users whose secret was being replaced since it was copied must be named with "
        "--doubt FILE": is_shared,
    }
    click.echo(plan.older or "nothing shows that this ledger is an older copy")
    click.echo(f"the channel shows secrets of {plan.records:,} users")
    for line, is_told in told.items():
        if is_told:
            click.echo(line)
    if plan.done:
        click.echo("done; go on with: mfa-worker run")
    elif plan.older or not plan.is_empty:
        click.echo("nothing was changed; to do this: mfa-worker recover --yes")


def _why_in_doubt(plan: Plan) -> str:
    others = len(plan.in_doubt) - len(plan.damaged) - len(plan.missing)
    whys = ["a secret of theirs was being replaced, or was lost"] if others else []
    whys += [f"their row is damaged ({len(plan.damaged):,})"] if plan.damaged else []
    whys += [f"their record is gone from the channel's file ({len(plan.missing):,})"] if plan.missing else []
    return ", or ".join(whys)


@click.command()
@configured
def redrive(settings: Settings) -> int:
    """Bring dead letters back to the queue (SQS), once it is mended why they became some; run takes them from there.

    They are requests that were received too often. The worker's own notes on malformed messages stay, and so does
    whatever is no request of this queue. Needs the policy "operator". Exit 1 if any request stayed.
    """
    from worker.app.repair.redrive import redrive as bring_back
    from worker.app.run import run_async

    done = run_async(bring_back(settings, lambda line: click.echo(line, err=True)))
    click.echo(f"brought back {done.brought_back}, malformed {done.malformed.total()}, refused {done.refused.total()}")
    for reason, number in sorted(done.malformed.items()):
        click.echo(f"malformed: {number} × {reason}; no request, so it stays there until you delete it", err=True)
    for code, number in sorted(done.refused.items()):
        click.echo(f"refused: {number} × {code}; look at the queue's attributes (MaximumMessageSize)", err=True)
    if done.notes or done.foreign:
        click.echo(f"{done.notes} notes on malformed messages and {done.foreign} of other queues stay there", err=True)
    if done.hidden:
        click.echo(
            f"about {done.hidden} more are hidden, received by somebody else: run it again in a minute", err=True
        )
    stayed = done.malformed or done.refused or done.hidden
    return ExitCode.SOME_LEFT_OUT if stayed else ExitCode.DONE


@click.command()
@click.argument("file", type=click.Path(path_type=str, allow_dash=True))
@click.option("--why", required=True, metavar="TEXT", help="Why they are not enrolled; status and export show it.")
@configured
def dismiss(settings: Settings, file: str, why: str) -> int:
    """Say that users are not to be enrolled: they become skipped, and no longer hold up exit code 0.

    FILE names them one a line; lines of "export" will do too. Only users who need a new sign-in, failed or have no row
    can be dismissed. A request that comes for one of them later, or waits on the queue now, enrols them after all.
    """
    from worker.app.repair.dismiss import dismiss as dismissed
    from worker.app.run import run_async

    with binary(file) as stream:
        told = run_async(dismissed(settings, stream, why))
    click.echo(
        f"dismissed {told.done}, already skipped {told.already}, left {told.left.total}, malformed {told.malformed}"
    )
    if told.unknown.total:
        names = ", ".join(told.unknown.lines())
        click.echo(f"the ledger did not know {told.unknown.total} of them; are they spelt right? {names}", err=True)
    return _print_left(told)


@click.command()
@click.argument("file", type=click.Path(path_type=str, allow_dash=True))
@configured
def redeliver(settings: Settings, file: str) -> int:
    """Deliver the same sealed records again to delivered users, without a call; needs ledger.keep_sealed = true.

    FILE names them one a line; lines of "export" will do too.
    """
    from worker.app.repair.redeliver import redeliver as delivered_again
    from worker.app.run import run_async

    with binary(file) as stream:
        told = run_async(delivered_again(settings, stream))
    click.echo(f"delivered again {told.done}, left {told.left.total}, malformed {told.malformed}")
    return _print_left(told)


def _print_left(told: Told) -> int:
    """Name users who were left as they are, and return the exit code."""
    for line in told.left.lines():
        click.echo(f"left: {line}", err=True)
    if told.malformed:
        click.echo("malformed: a line is a username of 1 to 128 characters in UTF-8, or a line of export", err=True)
    return ExitCode.SOME_LEFT_OUT if told.left.total or told.malformed else ExitCode.DONE
