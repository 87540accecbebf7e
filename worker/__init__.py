"""Enrols a whole Amazon Cognito user pool in TOTP multi-factor authentication.

To know the system, read in this order:

- ``core``: the guarantee. ``model`` (the words), ``rules`` (what may happen to a user next), ``ports`` (what is needed
  of the world), ``pipeline`` (the way of one user), ``call`` (the call in its middle), ``sign_in`` (before it) and
  ``activation`` (after the delivery)
- ``engine``: many users at once; ``pacing``: at one rate for all workers
- ``adapters``: the world behind the ports
- ``app``: how the worker is put together, and what each command does

Everything else has one reason to exist, which it says at its top. A migration script written in Python needs ``feed``
alone (``ticket`` where users are signed in when it is their turn), with ``worker.settings`` and ``worker.errors``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.app.feed import feed as feed
    from worker.requests.feed import Feed as Feed
    from worker.requests.ticket import make_ticket as ticket
    from worker.requests.ticket import read_key as ticket_key

__all__ = ["Feed", "feed", "ticket", "ticket_key"]

_HOMES = {
    "feed": ("worker.app.feed", "feed"),
    "Feed": ("worker.requests.feed", "Feed"),
    "ticket": ("worker.requests.ticket", "make_ticket"),
    "ticket_key": ("worker.requests.ticket", "read_key"),
}


def __getattr__(name: str) -> Any:
    """The public names when they are first asked for: most who import this package need none of what they bring."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, found = _HOMES[name]
    return getattr(import_module(module), found)
