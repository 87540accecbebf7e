"""The adapters under test, for all suites."""

from tests.contract.channels import *  # noqa: F403
from tests.contract.ledgers import *  # noqa: F403
from tests.contract.queues import *  # noqa: F403
