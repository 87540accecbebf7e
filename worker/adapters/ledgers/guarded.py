"""How a row is written that a worker of an earlier version must not touch, so that it cannot read it there.

An earlier version knows of no activation. It would go on with such a row, and leave what activation needs in it, or
write the whole row without that; and whoever is to be as before would be so without the reason. Two values of a row
are therefore written in words that an earlier version takes for a later version's: it lets these users alone, enrols
everybody else, and ends with exit code 3 (``reading.readable``).
"""

from __future__ import annotations

from worker.core.model import CredentialKind, Enrolment, Reason, State

_ACTIVATES = "+activation"
"""What is added to the kind of the credential of a row that holds what activation needs."""
_BECAUSE = ":"
"""What stands between the state to go back to and its reason."""


def kind_of(row: Enrolment) -> str | None:
    """The text for ``row.kind``."""
    if row.activation is None:
        return row.kind
    return f"{row.kind or ''}{_ACTIVATES}"


def before_of(row: Enrolment) -> str | None:
    """The text for ``row.before`` and ``row.before_reason``."""
    if row.before_reason is None:
        return row.before
    return f"{row.before or ''}{_BECAUSE}{row.before_reason}"


def read_kind(text: str | None) -> CredentialKind | None:
    """The kind in the text. Raises ``ValueError`` for a later version's."""
    kind = (text or "").removesuffix(_ACTIVATES)
    return CredentialKind(kind) if kind else None


def read_before(text: str | None) -> tuple[State | None, Reason | None]:
    """The state and its reason in the text. Raises ``ValueError`` for a later version's."""
    state, _, reason = (text or "").partition(_BECAUSE)
    return State(state) if state else None, Reason(reason) if reason else None
