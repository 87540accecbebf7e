"""Whether this rollout may use a ledger that is there, or not there: the same for every kind of ledger.

A ledger belongs to the rollout whose stamp it has (endpoint, Region and user pool), and it is stamped in the same
transaction as the first user's row. One without a user's row belongs to nobody: a mistyped pool is corrected in the
settings, and that is all. Workers of an earlier version stamped a ledger when they opened it; such a stamp counts as
little while there is no row.
"""

from __future__ import annotations

from collections.abc import Mapping

from worker.core.errors import UsageError
from worker.core.ports import Found
from worker.core.recipients import NoRecipientError, recipient

RECIPIENT = "activation recipient"
"""The part of the stamp that only workers bring along who activate: the recipient of their own identity."""
RECIPIENTS = "recipients"
"""The part of the stamp with those that the rollout seals to, one a line, sorted; only workers bring it along."""


def changed_recipients(before: str, now: str) -> tuple[list[str], list[str]]:
    """Return who came and who went, each in short, between two values of ``RECIPIENTS``."""
    earlier, later = before.splitlines(), now.splitlines()
    came, went = [each for each in later if each not in earlier], [each for each in earlier if each not in later]
    return list(map(_short, came)), list(map(_short, went))


def _short(text: str) -> str:
    try:
        return recipient(text).short
    except NoRecipientError:
        return "a key of a later version"


def refuse_other_recipients(found: Mapping[str, str], stamp: Mapping[str, str], ledger: str) -> None:
    """Raise ``UsageError`` where the ledger was begun with other recipients than those of the settings."""
    before, now = found.get(RECIPIENTS), stamp.get(RECIPIENTS)
    if before is None or now is None or before == now:
        return
    came, went = changed_recipients(before, now)
    changes = [f"{', '.join(each)} {what}" for each, what in ((came, "came"), (went, "went")) if each]
    raise UsageError(
        f"the rollout of the ledger {ledger} seals to other recipients than seal.recipients: {'; '.join(changes)}",
        "if nobody meant that, correct seal.recipients, and ask who changed it; if it is meant, end all workers and "
        "say so once: mfa-worker run --accept-recipients",
    )


def refuse_another(found: Mapping[str, str], stamp: Mapping[str, str], ledger: str, setting: str) -> None:
    """Raise ``UsageError`` where a part of the stamp that was found is another one than ours.

    ``ledger``: the file or table; ``setting``: which setting names it.
    """
    for name, value in stamp.items():
        if name == RECIPIENTS:
            continue
        if name == RECIPIENT and found.get(name, value) != value:
            raise UsageError(
                f"the ledger {ledger} was begun with another activation identity: the recipient of that one is "
                f"{found[name]}, and that of activation.identity is {value}",
                "name the file of that one (activation.identity): every worker of a ledger needs the same; where it is "
                "lost for good: mfa-worker recover --lost-identity shows whom that concerns",
            )
        if name in found and found[name] != value:
            raise UsageError(
                f"the ledger {ledger} belongs to another rollout: its {name} is {found[name]!r}, not {value!r}",
                f"correct these settings if they are wrong; else name another ledger ({setting}): each endpoint, Region"
                " and user pool has its own. If that one was begun with wrong settings, push everybody again into the "
                "new one",
            )
    refuse_other_recipients(found, stamp, ledger)


def refuse(found: Found, stamp: Mapping[str, str], ledger: str, setting: str, *, must_exist: bool) -> None:
    """Raise ``UsageError`` where the ledger is another rollout's, or must exist and has no user."""
    if must_exist and not found.has_users:
        raise UsageError(
            f"the ledger {ledger} does not exist"
            + (": what is there has no user's row, so no rollout has begun in it" if found.exists else ""),
            f"correct {setting}, or restore the ledger from a backup: it knows who was delivered already. "
            "Where this rollout is to begin now: ledger.must_exist = false until it has",
        )
    if found.has_users:
        refuse_another(found.stamp, stamp, ledger, setting)


def has_no_user(ledger: str, setting: str) -> UsageError:
    """The error for a command that compares with the ledger, where no user has a row."""
    return UsageError(
        f"the ledger {ledger} has no user's row, so it knows of no secret",
        f"name the rollout's ledger, or a copy of it ({setting}, -c FILE)",
    )
