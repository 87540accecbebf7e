"""Asks on a terminal what ``init`` must know; whoever answers something wrong is told why, and asked again."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from worker.core.errors import UsageError

if TYPE_CHECKING:
    from worker.setup.first_settings import Answers

Answer = TypeVar("Answer")
_BETWEEN_KEYS = re.compile(r" ?, ?| (?=(?:age1|ssh-|ecdsa-|sk-))", re.IGNORECASE)
"""What stands between two public keys in one line of single blanks; an SSH key has blanks in it."""


def answers(pool: str | None, issuer: str | None, recipients: tuple[str, ...]) -> Answers:
    """Return the answers of the flags, and ask for the others. Raises ``UsageError`` for a flag that is wrong.

    Where nobody can be asked, it raises ``click.UsageError`` that names the missing flags.
    """
    from worker.setup import first_settings as first

    given = first.Answers(
        pool="" if pool is None else first.pool_id(pool),
        issuer="" if issuer is None else first.issuer(issuer),
        recipients=tuple(dict.fromkeys(map(first.recipient, recipients))),
    )
    missing = [flag for flag, text in (("--pool ID", given.pool), ("--issuer NAME", given.issuer)) if not text]
    if not missing:
        return given
    if not sys.stdin.isatty():
        raise click.UsageError(f"standard input is no terminal, so nobody can be asked: give {' and '.join(missing)}")
    click.echo(
        "This writes a settings file, and a key pair where you have none. Ctrl-C ends it, and nothing is made.\n",
        err=True,
    )
    return first.Answers(
        pool=given.pool or _ask("The user pool to enrol, such as eu-central-1_AbCdEfGhI", first.pool_id),
        issuer=given.issuer
        or _ask("The name of your service, as people see it in their authenticator app", first.issuer),
        recipients=given.recipients
        or _ask(
            "Public keys that may open the secrets (age1…); empty: a key pair is made",
            _recipients,
            may_be_empty=True,
        ),
    )


def _recipients(text: str) -> tuple[str, ...]:
    from worker.setup.first_settings import recipient

    return tuple(dict.fromkeys(recipient(each) for each in _BETWEEN_KEYS.split(" ".join(text.split())) if each))


def _ask(question: str, understood: Callable[[str], Answer], *, may_be_empty: bool = False) -> Answer:
    while True:
        click.echo(f"{question}: ", err=True, nl=False)
        text = sys.stdin.readline()
        if not text:  # Ctrl-D
            raise click.Abort
        if not text.strip() and not may_be_empty:
            click.echo("  needed: write it, or end with Ctrl-C", err=True)
            continue
        try:
            return understood(text)
        except UsageError as error:
            click.echo(f"  {error}\n  → {error.hint}", err=True)
