"""Every metric that a worker shows: name, type, labels and meaning. ``docs/metrics.md`` has the same table.

Names follow Prometheus' conventions: base units in the name, ``_total`` for what only grows. What begins with
``mfa_worker_rollout_`` is about the whole rollout, and every worker shows the same (take ``max``); everything else is
about this one process (take ``sum``, or look at each).
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Metric(NamedTuple):
    """One metric, as it is scraped."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()

    @property
    def unit(self) -> str:
        """What its values are numbers of, as its name says; empty for what is 0 or 1."""
        name = self.name.removesuffix("_total")
        return next((unit for ending, unit in UNITS.items() if name.endswith(ending)), "")


UNITS = {
    "_timestamp_seconds": "Unix time",
    "_start_time_seconds": "Unix time",
    "_requests_per_second": "requests/s",
    "_seconds": "seconds",
    "_bytes": "bytes",
    "_users": "users",
    "_requests": "requests",
    "_attempts": "requests",
    "_dead_letters": "requests",
    "_bugs": "users",
    "_fds": "files",
}
"""How names end → the unit; the first that fits counts."""

SETTLED = Metric(
    "mfa_worker_settled_users_total",
    "counter",
    "Users whom this worker brought to an outcome, by state and reason (empty where there is none).",
    ("state", "reason"),
)
ATTEMPTS = Metric(
    "mfa_worker_attempts_total",
    "counter",
    "Requests that this worker sent to Cognito, by operation and by the answer that came.",
    ("operation", "answer"),
)
ATTEMPT_SECONDS = Metric(
    "mfa_worker_attempt_duration_seconds",
    "histogram",
    "How long Cognito's answers to this worker took, by operation.",
    ("operation",),
)
LEASE_TO_OUTCOME = Metric(
    "mfa_worker_lease_to_outcome_seconds",
    "histogram",
    "How long users took from the lease of their request to their outcome, waiting for the pace included.",
)
DUPLICATES = Metric(
    "mfa_worker_duplicate_requests_total", "counter", "Requests for which this worker found nothing left to do."
)
MALFORMED = Metric(
    "mfa_worker_malformed_requests_total", "counter", "Messages on the queue that this worker could not read."
)
GIVEN_BACK = Metric("mfa_worker_given_back_requests_total", "counter", "Messages that this worker gave back for later.")
QUOTA_LOST = Metric(
    "mfa_worker_quota_lost_requests_total",
    "counter",
    "Requests that this worker reserved from the shared rate and did not send although a user waited.",
)
BUGS = Metric("mfa_worker_bugs_total", "counter", "Users the work on whom met an error in the worker itself.")

CONFIGURED = Metric(
    "mfa_worker_rate_configured_requests_per_second",
    "gauge",
    "What the settings allow all workers of this ledger together (rate.requests_per_second times rate.share).",
)
ALLOWED = Metric(
    "mfa_worker_rate_allowed_requests_per_second",
    "gauge",
    "The shared rate at present: below the configured one after answers of too many requests.",
)
IN_FLIGHT = Metric("mfa_worker_in_flight_users", "gauge", "Users whom this worker works on at this moment.")
POSTPONED = Metric(
    "mfa_worker_postponed_users", "gauge", "Users who were refused or throttled alone, and are tried again later."
)
WAITING = Metric(
    "mfa_worker_waiting",
    "gauge",
    "1 while this worker can make no call because of that dependency (the circuit is open), else 0.",
    ("dependency",),
)
READY = Metric("mfa_worker_ready", "gauge", "1 while /readyz says 200, else 0.")
IDLE = Metric(
    "mfa_worker_idle_seconds", "gauge", "Time since anything moved this worker on; small while there is nothing to do."
)
CLOCK_SKEW = Metric(
    "mfa_worker_clock_skew_seconds",
    "gauge",
    "How far Cognito's clock is ahead of this machine's; absent before it is known.",
)
BUILD_INFO = Metric("mfa_worker_build_info", "gauge", "Always 1.", ("version", "python"))

USERS = Metric(
    "mfa_worker_rollout_users",
    "gauge",
    "Users in the ledger, by state and reason (empty where there is none).",
    ("state", "reason"),
)
UNFINISHED = Metric(
    "mfa_worker_rollout_unfinished_users", "gauge", "Users in the ledger whom some worker still has to finish."
)
SEALED = Metric(
    "mfa_worker_rollout_sealed_undelivered_users",
    "gauge",
    "Users whose sealed secret is in the ledger and not yet delivered.",
)
BACKLOG = Metric(
    "mfa_worker_rollout_backlog_requests",
    "gauge",
    "Requests on the queue, leased ones included (SQS: approximate).",
)
EXPIRED = Metric(
    "mfa_worker_rollout_backlog_expired_requests",
    "gauge",
    "Requests on the queue whose credential is known to have died (SQS: always 0).",
)
DEADLINE = Metric(
    "mfa_worker_rollout_earliest_deadline_timestamp_seconds",
    "gauge",
    "When the credential of a waiting request dies next (SQS: of those received ahead); absent where none waits.",
)
DEAD_LETTERS = Metric(
    "mfa_worker_rollout_dead_letters",
    "gauge",
    "Requests that SQS moved away because they were received too often; absent where nobody may look.",
)
ROLLOUT_MALFORMED = Metric(
    "mfa_worker_rollout_malformed_requests", "gauge", "Messages that were put aside because no worker can read them."
)
ROLLOUT_DUPLICATES = Metric(
    "mfa_worker_rollout_duplicate_requests", "gauge", "Requests for users who were done, of all workers and pushes."
)
COUNTED_AT = Metric(
    "mfa_worker_rollout_counted_timestamp_seconds",
    "gauge",
    "When the numbers of the rollout were last read from ledger and queue.",
)

PROCESS = (
    Metric("mfa_worker_process_cpu_seconds_total", "counter", "Total user and system CPU time spent in seconds."),
    Metric("mfa_worker_process_resident_memory_bytes", "gauge", "Resident memory size in bytes."),
    Metric("mfa_worker_process_virtual_memory_bytes", "gauge", "Virtual memory size in bytes."),
    Metric("mfa_worker_process_open_fds", "gauge", "Number of open file descriptors."),
    Metric("mfa_worker_process_max_fds", "gauge", "Maximum number of open file descriptors."),
    Metric("mfa_worker_process_start_time_seconds", "gauge", "Start time of the process since unix epoch in seconds."),
)
"""What ``prometheus_client`` knows of the process, on Linux only."""

OWN = (
    SETTLED, ATTEMPTS, ATTEMPT_SECONDS, LEASE_TO_OUTCOME, DUPLICATES, MALFORMED, GIVEN_BACK, QUOTA_LOST, BUGS,
    CONFIGURED, ALLOWED, IN_FLIGHT, POSTPONED, WAITING, READY, IDLE, CLOCK_SKEW, BUILD_INFO,
)  # fmt: skip
"""What is about this one process."""
ROLLOUT = (
    USERS, UNFINISHED, SEALED, BACKLOG, EXPIRED, DEADLINE, DEAD_LETTERS, ROLLOUT_MALFORMED, ROLLOUT_DUPLICATES,
    COUNTED_AT,
)  # fmt: skip
"""What is about the whole rollout; absent until it was counted for the first time."""
ALL = (*OWN, *ROLLOUT, *PROCESS)
