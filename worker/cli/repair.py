"""The commands that put a rollout in order by hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from worker.cli.options import configured
from worker.core.errors import ExitCode

if TYPE_CHECKING:
    from worker.settings import Settings


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
        click.echo(f"malformed: {number} × {reason}", err=True)
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
