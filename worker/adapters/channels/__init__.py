"""How secrets reach their users. Each folder here is one complete channel, which no other part of the project names.

The folder's name is the value of ``channel.kind``, and its ``__init__`` contains ``KIND``, a ``ChannelKind``, through
which the rest of the worker uses the channel. To add a channel, add a folder, and a way to open it in the tests that
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
    """Every channel by its kind, in alphabetical order. Imports nothing heavy, such as an SDK."""
    names = sorted(module.name for module in pkgutil.iter_modules(__path__) if module.ispkg)
    return {name: import_module(f"{__name__}.{name}").KIND for name in names}


def kind_of(channel: ChannelSettings) -> ChannelKind[Any]:
    """The channel that these settings choose."""
    return kinds()[channel.kind]


def kind_of_source(source: str) -> ChannelKind[Any] | None:
    """The channel to which this source of ``open`` belongs, by its scheme; ``None`` for a file of lines."""
    schemes = {kind.scheme: kind for kind in kinds().values() if kind.scheme}
    return next((kind for scheme, kind in schemes.items() if source.startswith(scheme)), None)
