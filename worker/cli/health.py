"""The command ``health``: what a container's health check asks, without a shell, a port or a settings file."""

from __future__ import annotations

import click

from worker.core.errors import ExitCode


@click.command()
def health() -> int:
    """Ask the runs on this host, or in this container, whether one has hung.

    A run that waits, begins or ends is well. Exit 1 where a run gives no answer, nothing moved for longer than
    run.watchdog and it could not end itself, or where no run of this user is here. Made for the HEALTHCHECK of the
    image; any other command needs no health check. It reads no settings.
    """
    from worker.telemetry.metrics import on_host

    try:
        answers = on_host.ask()
    except OSError as error:
        click.echo(f"mfa-worker: runs cannot be looked for in {on_host.LISTED}: {error.strerror}", err=True)
        click.echo("  → set metrics.port, and ask for /healthz there; this command needs Linux", err=True)
        return ExitCode.SOME_LEFT_OUT
    for each in answers:
        click.echo(f"process {each.process}: {each.text}")
    if not answers:
        click.echo(
            "mfa-worker: no run of this user is here: it has not begun yet, has ended, or is elsewhere", err=True
        )
        click.echo(
            "  → ask where it runs: docker exec CONTAINER mfa-worker health; how far it is: mfa-worker status", err=True
        )
    return ExitCode.DONE if answers and all(each.is_well for each in answers) else ExitCode.SOME_LEFT_OUT
