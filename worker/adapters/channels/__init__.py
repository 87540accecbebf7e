"""How secrets reach their users. Each folder here is a channel, whole: nothing else in the project names it.

A folder's name is the channel's ``channel.kind``, and its ``__init__`` holds ``KIND``, a ``ChannelKind`` that says what
the rest of the worker needs to know. Whoever adds a channel adds a folder, and a way to open it for the tests that
every channel has to pass (``tests/adapters/channels/test_every_channel.py``).
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from worker.adapters.channels.kind import ChannelKind
    from worker.settings.stores import ChannelSettings


def kinds() -> Mapping[str, ChannelKind[Any]]:
    """Every channel that there is, by its kind, in alphabetical order. Imports nothing heavy, such as an SDK."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)
    return {name: import_module(f"{__name__}.{name}").KIND for name in names}


def kind_of(channel: ChannelSettings) -> ChannelKind[Any]:
    """The channel that these settings choose."""
    return kinds()[channel.kind]


def kind_of_source(source: str) -> ChannelKind[Any] | None:
    """The channel whose records lie at this source of ``open``, by its scheme; ``None`` for a file of lines."""
    schemes = {kind.scheme: kind for kind in kinds().values() if kind.scheme}
    return next((kind for scheme, kind in schemes.items() if source.startswith(scheme)), None)
