"""The command ``status``: where the rollout stands, once or again and again."""

from __future__ import annotations

import json
import sys
import time
from contextlib import aclosing, nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from worker.cli.options import configured

if TYPE_CHECKING:
    from worker.settings import Settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object, for scripts; with --watch one a line.")
@click.option("--malformed", is_flag=True, help="List the malformed messages too, by reason and digest.")
@click.option("--watch", is_flag=True, help="Look again and again, at all workers together, until Ctrl-C.")
@configured
def status(settings: Settings, as_json: bool, malformed: bool, watch: bool) -> None:
    """Count the users in each of the ledger's states, and the requests that wait.

    While workers run it also says how fast they are and when it ends, for which it looks twice, two seconds apart.
    --watch shows the same as the terminal of "run", from any host; where its output is no terminal, a line every
    log.interval.
    """
    from worker.app import commands, standing
    from worker.app.run import run_async
    from worker.telemetry import report
    from worker.telemetry.standing import print_lines

    if watch and malformed:
        raise click.UsageError("--malformed lists once: leave out --watch")
    if watch:
        run_async(_watch(settings, as_json=as_json))
        return
    found = run_async(standing.standing(settings, measures=not as_json))
    aside = run_async(commands.malformed(settings)) if malformed else None
    if as_json:
        listed = {"put_aside": None if aside is None else [asdict(each) for each in aside]} if malformed else {}
        click.echo(json.dumps({**report.status(found.look.counts, found.look.backlog), **listed}))
        return
    print_lines(found, sys.stdout, lists_malformed=malformed)
    if malformed:
        report.print_lines(commands.told(aside, settings), sys.stdout)


async def _watch(settings: Settings, *, as_json: bool) -> None:
    from worker.app import standing
    from worker.telemetry import progress
    from worker.telemetry import standing as said

    draws = not as_json and progress.can_draw(sys.stdout)
    if draws:
        from worker.telemetry.drawing import Drawing

        drawing = Drawing(sys.stdout)
    told_at, told = -settings.log.interval, ""
    with drawing if draws else nullcontext():
        async with aclosing(standing.watch(settings)) as watched:
            async for found, trouble in watched:
                if draws:
                    drawing.draw(said.waiting(trouble) if found is None else found.snapshot(trouble))
                    continue
                if found is None:
                    if trouble != told:
                        click.echo(f"waiting for {trouble}", err=True)
                        told = trouble
                elif time.monotonic() - told_at >= settings.log.interval:
                    told_at = time.monotonic()
                    click.echo(json.dumps(said.as_json(found, trouble)) if as_json else said.line(found, trouble))
