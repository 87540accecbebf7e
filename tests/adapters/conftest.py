"""The adapters under test, for all suites."""

from tests.adapters.channels.rigs import *  # noqa: F403
from tests.adapters.ledgers.rigs import *  # noqa: F403
from tests.adapters.queues.rigs import *  # noqa: F403
