"""Makes keys that the library seals to from public keys as text, of every kind that it reads (``core.recipients``)."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import pyrage

from worker.core.errors import UsageError
from worker.core.recipients import Kind, NoRecipientError, Recipient, recipients
from worker.core.text import escape

PREFIX = "age-plugin-"
"""How the names of plugins' programs begin (age's specification of plugins)."""

_NATIVE: dict[Kind, Callable[[str], Any]] = {
    Kind.X25519: pyrage.x25519.Recipient.from_str,
    Kind.SSH_ED25519: pyrage.ssh.Recipient.from_str,
    Kind.SSH_RSA: pyrage.ssh.Recipient.from_str,
    Kind.TAG: pyrage.tag.Recipient.from_str,
    Kind.TAG_PQ: pyrage.tagpq.Recipient.from_str,
}
"""What makes a key of each kind that needs no plugin."""
_LONGEST = 300
"""Characters of what a plugin says that are repeated."""


class Callbacks(Protocol):
    """What a plugin may say or ask while it works. ``None``: no answer."""

    def display_message(self, message: str) -> None:
        """The plugin says something."""

    def confirm(self, message: str, yes_string: str, no_string: str | None) -> bool | None:
        """The plugin asks for a yes or a no."""

    def request_public_string(self, description: str) -> str | None:
        """The plugin asks for text."""

    def request_passphrase(self, description: str) -> str | None:
        """The plugin asks for a PIN or the like."""


class NoAnswers:
    """``Callbacks`` of a worker, before which nobody sits."""

    def __init__(self) -> None:
        self.asked = ""
        """What a plugin asked last."""

    def display_message(self, message: str) -> None:
        """See ``Callbacks``."""

    def confirm(self, message: str, yes_string: str, no_string: str | None) -> bool | None:  # noqa: ARG002
        """See ``Callbacks``."""
        self.asked = message
        return None

    def request_public_string(self, description: str) -> str | None:
        """See ``Callbacks``."""
        self.asked = description
        return None

    request_passphrase = request_public_string


def readable(texts: Iterable[str]) -> tuple[Recipient, ...]:
    """Return these public keys of ``seal.recipients``.

    Raises ``UsageError``, which repeats none of them, for one that is none, and where there is no one at all.
    """
    try:
        found = recipients(texts)
    except NoRecipientError as error:
        raise UsageError(f"seal.recipients: {error}", error.cure) from None
    if not found:
        raise UsageError(
            "nobody could open what the worker seals: seal.recipients is empty",
            'make an identity with "mfa-worker keygen -o FILE", keep it away from the worker, '
            "and put the recipient that it prints into seal.recipients",
        )
    return found


def refuse_missing(found: Sequence[Recipient]) -> None:
    """Raise ``UsageError`` where the program of a plugin is not on the ``PATH``."""
    for number, each in enumerate(found, 1):
        if each.plugin and not program(each.plugin):
            raise UsageError(
                f"entry {number} of seal.recipients is {each.words}, and its program {PREFIX}{each.plugin} is not on "
                "the PATH of this process",
                f"install it where the worker runs (in a container: COPY {PREFIX}{each.plugin} /usr/local/bin/), or "
                f"name a key that needs none: {without_plugin(each.plugin)}",
            )


def without_plugin(plugin: str) -> str:
    """Which keys need no plugin at the worker, for whoever has this one."""
    if plugin == "pq":
        return "age1… of keygen, or the age1tagpq1… of hardware"
    return "the age1tag1… that newer plugins print for the same hardware, or age1… of keygen"


def program(plugin: str) -> str | None:
    """Return the path of a plugin's program, if it is on the ``PATH``."""
    return shutil.which(f"{PREFIX}{plugin}")


def one_line(words: str) -> str:
    """What a plugin, or the library of it, said: without what could confuse a terminal or a log."""
    line = words.replace("\u2068", "").replace("\u2069", "").strip().partition("\n")[0]
    return escape(line[:_LONGEST])


def keys(found: Sequence[Recipient], callbacks: Callbacks) -> list[Any]:
    """Return the library's keys for these; all that one plugin seals to are one.

    Raises ``UsageError``, also where the program of a plugin is missing.
    """
    made, plugins = [], dict[str, list[Any]]()
    for number, each in enumerate(found, 1):
        try:
            if each.plugin:
                plugins.setdefault(each.plugin, []).append(pyrage.plugin.Recipient.from_str(each.text))
            else:
                made.append(_NATIVE[each.kind](each.text))
        except pyrage.RecipientError:
            raise UsageError(
                f"entry {number} of seal.recipients is {each.words} of which a letter is wrong or missing",
                "copy it again; mfa-worker keygen -o FILE makes a new pair and prints its public key",
            ) from None
    refuse_missing(found)
    for plugin, its in plugins.items():
        made.append(pyrage.plugin.RecipientPluginV1(plugin, its, [], callbacks))
    return made
