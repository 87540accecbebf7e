"""What a purge takes from a row: what is sealed in it and needed no more, and nothing that explains it."""

from __future__ import annotations

import pytest

from tests.support.rows import activation, row, sealed
from worker.core.history import PURGED
from worker.core.model import CredentialKind, Enrolment, Reason, State
from worker.core.purging import Holds, purged

NOW = 1.8e9
DELIVERED = row("ana", State.DELIVERED, sealed=sealed())
LEFT = DELIVERED._replace(reason=Reason.VERIFY_TOKEN_EXPIRED, activation=activation(kind=CredentialKind.ACCESS_TOKEN))
NOTHING = row("ana", State.ACTIVE, sealed=sealed(blob=b""))
UNFINISHED = [
    row("bob", State.SEALED, sealed=sealed(), activation=activation()),
    row("cem", State.DELIVERED, reason=Reason.ACTIVATION_PENDING, sealed=sealed(), activation=activation()),
    row("dan", State.IN_PROGRESS, before=State.DELIVERED, sealed=sealed(blob=b""), activation=activation()),
]


@pytest.mark.parametrize("activations", [False, True])
@pytest.mark.parametrize("kept", [*UNFINISHED, NOTHING, row("ana", State.FAILED)], ids=lambda each: each.state)
def test_nothing_is_taken_from_whoever_is_not_finished_or_holds_nothing(kept: Enrolment, *, activations: bool) -> None:
    assert purged(kept, NOW, activations=activations) is None


def test_of_a_record_that_was_kept_all_but_the_bytes_stays_known() -> None:
    after = purged(DELIVERED, NOW, activations=False)

    assert after is not None
    assert after._replace(events=()) == DELIVERED._replace(sealed=sealed()._replace(blob=b""))
    assert [(event.at, event.what) for event in after.events] == [(NOW, PURGED)]


def test_an_activation_that_can_go_on_is_taken_only_if_that_is_said() -> None:
    kept = purged(LEFT, NOW, activations=False)
    assert kept is not None
    assert kept.activation == LEFT.activation
    taken = purged(kept, NOW + 1, activations=True)
    assert taken is not None
    assert taken.activation is None
    assert purged(taken, NOW + 2, activations=True) is None, "it is done once"


def test_that_an_earlier_secret_may_be_the_active_factor_stays_known_without_the_secret() -> None:
    replaces = LEFT._replace(activation=activation(kind=CredentialKind.ACCESS_TOKEN, replaces=True))
    after = purged(replaces, NOW, activations=True)

    assert after is not None
    assert after.activation == activation(b"", kind=CredentialKind.SESSION, replaces=True)
    assert purged(after, NOW + 1, activations=True) is None, "it is done once"


def test_it_is_said_how_many_users_hold_what_and_who_is_not_finished() -> None:
    holds = Holds()
    for each in [DELIVERED, LEFT, LEFT, NOTHING, row("ana", State.NEEDS_SESSION), *UNFINISHED, UNFINISHED[0]]:
        holds.add(each)

    assert (holds.sealed, holds.activations, holds.outbox, holds.delivered) == (3, 2, 3, 4)
    assert list(holds.unfinished.lines()) == [
        "'bob' (sealed)",
        "'cem' (activation_pending)",
        "'dan' (in_progress)",
        "'bob' (sealed)",
    ]
