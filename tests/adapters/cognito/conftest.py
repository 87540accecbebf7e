"""What the tests of the requests to Cognito share: a wire on loopback that answers as a test says."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.wire import Wire, listening


@pytest.fixture
async def wire() -> AsyncIterator[Wire]:
    async with listening() as wire:
        yield wire
