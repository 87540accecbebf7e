"""The errors and exit codes that a script may rely on; ``core.errors`` says what each one means."""

from worker.core.errors import (
    ChannelUnavailable,
    DependencyUnavailable,
    EndpointUnavailable,
    ExitCode,
    Interrupted,
    LedgerUnavailable,
    Malformed,
    MaxUsersReached,
    NoProgress,
    PersonMustAct,
    QueueUnavailable,
    RecordRefused,
    RowDamaged,
    RowUnreadable,
    UsageError,
    WorkerError,
)

DependencyAway = DependencyUnavailable
"""The former name, for the scripts that catch it; so are the four below."""
EndpointAway = EndpointUnavailable
"""The former name."""
QueueAway = QueueUnavailable
"""The former name."""
LedgerAway = LedgerUnavailable
"""The former name."""
ChannelAway = ChannelUnavailable
"""The former name."""

__all__ = [
    "ChannelAway",
    "ChannelUnavailable",
    "DependencyAway",
    "DependencyUnavailable",
    "EndpointAway",
    "EndpointUnavailable",
    "ExitCode",
    "Interrupted",
    "LedgerAway",
    "LedgerUnavailable",
    "Malformed",
    "MaxUsersReached",
    "NoProgress",
    "PersonMustAct",
    "QueueAway",
    "QueueUnavailable",
    "RecordRefused",
    "RowDamaged",
    "RowUnreadable",
    "UsageError",
    "WorkerError",
]
