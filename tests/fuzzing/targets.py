"""Every parser of foreign bytes: a table of name → target. ``test_inventory`` sees that none is missing."""

from __future__ import annotations

from tests.fuzzing import of_aws, of_cognito, of_ledgers, of_people, of_requests, of_sealing, of_settings
from tests.fuzzing.harness import Target

TARGETS: dict[str, Target] = {
    **of_requests.TARGETS,
    **of_cognito.TARGETS,
    **of_aws.TARGETS,
    **of_ledgers.TARGETS,
    **of_sealing.TARGETS,
    **of_settings.TARGETS,
    **of_people.TARGETS,
}
