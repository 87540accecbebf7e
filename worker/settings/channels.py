"""Builds the section ``channel``: the keys that all channels have, and the own keys of each existing channel.

All keys are accepted whichever channel is chosen, so a settings file may contain those of several channels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from functools import cache
from typing import Any, Literal

from pydantic import Field, create_model

from worker.adapters.channels import kinds
from worker.settings.stores import ChannelSettings
from worker.settings.types import Section


def channel_section() -> type[ChannelSettings]:
    """The section with the keys of all existing channels; it inherits from each channel's own settings."""
    return _composed(tuple((name, kind.settings, kind.summary) for name, kind in kinds().items()))


@cache
def _composed(found: tuple[tuple[str, type[ChannelSettings], str], ...]) -> type[ChannelSettings]:
    kind: Any = Literal[tuple(name for name, _, _ in found)]
    summaries = ", ".join(f"{name} ({summary})" for name, _, summary in found)
    settings = tuple(each for _, each, _ in found)
    definitions: dict[str, Any] = {
        name: (definition.annotation, definition) for each in settings for name, definition in each.model_fields.items()
    }
    # This base only sets the order of the keys: pydantic takes it from the last base.
    order = create_model("Order", __base__=Section, **{name: definitions[name] for name in _in_order(settings)})
    bases: Any = (*settings, order)
    section: type[ChannelSettings] = create_model(
        "ChannelSettings",
        __base__=bases,
        __doc__=ChannelSettings.__doc__,
        kind=(kind, Field(default="file", description=f"where sealed secrets go: {summaries}")),
    )
    return section


def _in_order(settings: Iterable[type[ChannelSettings]]) -> list[str]:
    """The keys in the order of the page: ``kind``, those of one channel, those of several, and those of all."""
    common = list(ChannelSettings.model_fields)
    owners = Counter(name for each in settings for name in each.model_fields if name not in common)
    own = [name for name, number in owners.items() if number == 1]
    return ["kind", *own, *(name for name in owners if name not in own), *common[1:]]
