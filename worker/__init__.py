"""Enrols a whole Amazon Cognito user pool in TOTP multi-factor authentication.

To know the system, read in this order:

- ``model``: the words of the trade; ``rules``: what may happen to a user next
- ``ports``: what the pipeline needs of the world
- ``pipeline``: the way of one user; ``calling``: the call in its middle; ``drain``: many users at once
- ``app``: which adapters there are, and how all is wired; ``job``: the main job around it

Everything else has one reason to exist, which it says at its top. For migration scripts there is ``feed``; the rest is
used by its commands.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.feeding import Feed as Feed
    from worker.feeding import feed as feed

__all__ = ["Feed", "feed"]


def __getattr__(name: str) -> Any:
    """The public names when they are first asked for: most who import this package need none of what they bring."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from worker import feeding

    return getattr(feeding, name)
