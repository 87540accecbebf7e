"""The options ``--config`` and ``--set``, which every command accepts, and which may also stand before the command."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from worker.cli import completion
from worker.core.errors import UsageError

if TYPE_CHECKING:
    from worker.settings import Settings

Command = Callable[..., Any]
"""A function that click turns into a command; its arguments are the command's options."""

CONFIG = click.option(
    "--config",
    "-c",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The settings file (TOML); default: MFA_WORKER_CONFIG.",
)
"""The option ``--config``, for a command or the whole program."""

SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    shell_complete=completion.settings,
    help="One setting; wins over file and environment.",
)
"""The option ``--set``, for a command or the whole program."""


def configured(command: Command) -> Command:
    """Pass ``settings`` to the command, loaded from file, environment and options, and set up logging by them."""

    @wraps(command)
    def wrapper(context: click.Context, config: Path | None, overrides: tuple[str, ...], **arguments: Any) -> Any:
        from worker.telemetry import logs

        settings = load(context, config, overrides)
        logs.configure(settings.log.format, settings.log.level)
        return command(settings, **arguments)

    decorated: Command = click.pass_context(wrapper)
    return CONFIG(SET(decorated))


def small_pipe(context: click.Context, _option: click.Parameter, value: Any) -> Any:
    """Make a pipe on standard input small as soon as an option says that it is read: then its writer cannot fill it.

    Settings and stores take a while to be opened.
    """
    if value in (True, "-") and not context.resilient_parsing:  # which is how the shell asks for completions
        from worker.requests.lines import shrink_pipe

        shrink_pipe(0)
    return value


MOST_SECONDS = 3650 * 86_400.0
"""The longest duration that an option takes, ten years: what is longer has a wrong unit."""


def duration(_context: click.Context, _option: click.Parameter, value: str | None) -> float | None:
    """Return the seconds of a duration, written as in the settings (``90m``, ``24h``). Raises ``BadParameter``."""
    if value is None:
        return None
    from pydantic import TypeAdapter, ValidationError

    from worker.settings.types import Seconds

    try:
        seconds: float = TypeAdapter(Seconds).validate_python(value)
    except ValidationError:
        raise click.BadParameter("should be a duration of more than 0, such as 90m, 24h or 3d") from None
    if seconds > MOST_SECONDS:
        raise click.BadParameter("should be at most 3650d, ten years")
    return seconds


def say_if_terminal() -> None:
    """Say what is waited for where requests are read from a terminal: a command without a file looks as if it hung."""
    with suppress(OSError, ValueError):
        if os.isatty(0):
            click.echo("reading from the terminal: one line for each, and Ctrl-D at the end", err=True)


def load(context: click.Context, config: Path | None, overrides: tuple[str, ...]) -> Settings:
    """Return the settings that are in effect. Raises ``UsageError``."""
    from worker import settings

    return settings.load(*sources(context, config, overrides))


def sources(
    context: click.Context, config: Path | None, overrides: tuple[str, ...]
) -> tuple[Path | None, list[str], Any]:
    """Return where settings come from: the file, ``--set`` before and after the command, and the environment."""
    common = context.find_root().params
    given = [*common.get("overrides", ()), *overrides]
    for key in ("sign_in.client_secret",):
        if any(each.partition("=")[0].strip() == key for each in given):
            name = f"MFA_WORKER_{key.replace('.', '__').upper()}_FILE"
            raise UsageError(
                f"--set {key}: every user of this host can read arguments, and the shell's history keeps them",
                f"write it into a file of mode 0600 that {name} names; where others use this host, make a new one",
            )
    return config or common.get("config"), given, os.environ


def as_typed(settings: Settings) -> list[str]:
    """Return how a command begins that reads the same settings as this one."""
    context = click.get_current_context()
    file = ["-c", str(settings.file)] if settings.file is not None else []
    _, given, _ = sources(context, None, context.params.get("overrides") or ())
    return ["mfa-worker", *file, *(part for each in given for part in ("--set", each))]


def binary(file: str) -> Any:
    """Open a file (``-``: standard input) for reading bytes. Raises ``click.UsageError`` if it cannot be read."""
    if file == "-":
        say_if_terminal()
    try:
        return click.open_file(file, "rb")
    except OSError as error:
        raise click.UsageError(
            f"cannot read {file}: {error.strerror}. Name a file that is there, or - for standard input"
        ) from None
