"""What a script may import from ``worker.errors``."""

from __future__ import annotations

import inspect

from worker import errors
from worker.core import errors as core_errors


def test_a_script_can_catch_every_error_that_there_is() -> None:
    every = {
        name
        for name, what in vars(core_errors).items()
        if inspect.isclass(what) and what.__module__ == core_errors.__name__
    }
    assert every <= set(errors.__all__)


def test_a_script_that_catches_an_error_by_its_former_name_still_does() -> None:
    for former in ("DependencyAway", "EndpointAway", "QueueAway", "LedgerAway", "ChannelAway"):
        assert getattr(errors, former) is getattr(core_errors, former.replace("Away", "Unavailable"))
