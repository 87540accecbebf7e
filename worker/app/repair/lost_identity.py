"""``mfa-worker recover --lost-identity``: gives up what was sealed to a worker's own identity that nobody has any more.

Nobody can open what the activation of these users needs. Whoever is delivered keeps the secret, and whether it is
verified is not known: a new sign-in shows that. Whoever is not delivered yet needs a new sign-in, too. At the end the
ledger is bound to no identity any more, so that the next run binds it to its own. It may be interrupted and done again.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from worker.adapters.ledgers.found import RECIPIENT
from worker.app.repair.users import versions
from worker.app.stores import Purpose, open_stores
from worker.core import history, rules
from worker.core.errors import PersonMustAct, UsageError
from worker.core.model import Enrolment, Lost, Reason, State
from worker.core.text import Named
from worker.settings import Settings


@dataclass(slots=True)
class GivenUp:
    """Whom it concerns, or concerned."""

    recipient: str | None
    """Of the identity to which the ledger is, or was, bound."""
    delivered: Named = field(default_factory=Named)
    """Users who are delivered, and become ``verify_unknown`` unless another reason stands already."""
    others: Named = field(default_factory=Named)
    """Users who become ``needs_session: reply_lost``, or whose new secret is just being made."""
    done: bool = False


async def give_up(settings: Settings, *, act: bool = False) -> GivenUp:
    """Return whom it concerns; with ``act``, do it.

    Raises ``UsageError`` while a worker is at work, ``DependencyUnavailable``, ``PersonMustAct``.
    """
    async with open_stores(settings, Purpose.EXISTING) as stores:
        if await stores.ledger.is_used():
            raise UsageError(
                "a worker is at work with this ledger, or its claims have not run out yet",
                f"stop all workers, and wait for ledger.lease ({settings.ledger.lease:g} s) where one was killed",
            )
        given_up, version = GivenUp(stores.found.stamp.get(RECIPIENT)), versions(stores.worker)
        with stores.alive:
            async for row in stores.ledger.every_row():
                if row.activation is None or not row.activation.blob:
                    continue
                named = given_up.delivered if row.state is State.DELIVERED else given_up.others
                named.add(repr(row.username))
                if act:
                    new = _without(row, time.time())._replace(version=next(version))
                    if isinstance(await stores.ledger.put(new, row.version), Lost):
                        raise PersonMustAct(
                            "the ledger was changed meanwhile",
                            "stop all workers, then: mfa-worker recover --lost-identity --yes",
                        )
            if act:
                await stores.ledger.forget(RECIPIENT)
        given_up.done = act
        return given_up


def _without(row: Enrolment, now: float) -> Enrolment:
    """The row without what its activation needs."""
    if row.state is State.SEALED:
        row = rules.in_doubt(row, row.request_id, now, late_effect_for=0.0)
    elif row.reason is Reason.ACTIVATION_PENDING:
        row = row._replace(reason=Reason.VERIFY_UNKNOWN, since=now, worker=None, lease_until=0.0)
    return row._replace(activation=None, events=history.and_then(row.events, now, history.IDENTITY_LOST))
