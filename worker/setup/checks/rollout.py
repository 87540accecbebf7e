"""What ``check`` computes of the rollout itself: who can open, what people see, how long it takes, what it costs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from worker.core.errors import WorkerError
from worker.sealing.age import AgeSealer
from worker.settings import Settings
from worker.setup.checks.findings import Finding, advice, fails, ok
from worker.telemetry.report import duration

QUOTA = 25.0
"""Requests/s that Cognito takes of a whole account and Region (UserResourceUpdate; "Quotas in Amazon Cognito")."""
SECRET_PRICE = 0.40
"""US dollars that Secrets Manager takes for a secret and month ("AWS Secrets Manager Pricing")."""

MANY_SECRETS = 50_000
"""Secrets from which on the price is worth a word: 20,000 US dollars a month."""

MOST_SECRETS = 500_000
"""Secrets that one Region of an account takes at most ("AWS Secrets Manager quotas")."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What is known of queue and ledger; ``None``: not known."""

    waiting: int | None = None
    """Messages that wait."""
    expired: int = 0
    """Of them with a credential that has died; only an embedded queue knows."""
    sessions: int | None = None
    """Of them with a Session, not an access token."""
    users: int | None = None
    """Users in the ledger."""

    def __add__(self, other: Seen) -> Seen:
        """Both queues together; what is not known of one is not known of both."""
        sessions = None if self.sessions is None or other.sessions is None else self.sessions + other.sessions
        waiting = (self.waiting or 0) + (other.waiting or 0)
        return Seen(waiting, self.expired + other.expired, sessions, self.users)

    def __or__(self, other: Seen) -> Seen:
        """What is known from either; where both know something, what the other one knows."""
        return Seen(
            waiting=self.waiting if other.waiting is None else other.waiting,
            expired=self.expired or other.expired,
            sessions=self.sessions if other.sessions is None else other.sessions,
            users=self.users if other.users is None else other.users,
        )


def look(settings: Settings) -> list[Finding]:
    """What can be said from the settings alone."""
    return [_recipients(settings), _otp(settings), _rate(settings)]


def look_at(settings: Settings, seen: Seen) -> list[Finding]:
    """What can be said from what waits."""
    findings = list(_backlog(settings, seen))
    findings.append(_way(settings, seen.sessions))
    if settings.channel.kind == "secretsmanager":
        findings.append(_price(seen))
    return findings


def _recipients(settings: Settings) -> Finding:
    try:
        AgeSealer(settings.seal.recipients)
    except WorkerError as error:
        return fails("seal", str(error), error.hint)
    number = len(settings.seal.recipients)
    if number < 2:
        return advice("seal", "one recipient", "a lost identity loses every secret: seal to two")
    return ok("seal", f"{number} recipients")


def _otp(settings: Settings) -> Finding:
    said = f"people will see {settings.otp.issuer!r} in their app"
    if settings.otp.issuer == settings.cognito.user_pool_id:
        return advice("otp", said, "name your service in otp.issuer")
    return ok("otp", said)


def _rate(settings: Settings) -> Finding:
    rate = settings.rate.effective
    said = (
        f"{rate:g} requests/s for all workers of this ledger together; other tools and live users of the same account "
        "and Region are not seen"
    )
    if rate > QUOTA and settings.cognito.endpoint_url is None:
        cure = f"set rate.requests_per_second below {QUOTA:g}; rate.share is this ledger's part of it"
        return advice("rate", f"{said}, and Cognito takes {QUOTA:g} of all", cure)
    return ok("rate", f"{said} (rate.share is this ledger's part)")


def _backlog(settings: Settings, seen: Seen) -> Iterator[Finding]:
    if seen.waiting is None:
        return
    rate = settings.rate.effective
    said = f"{seen.waiting:,} wait: {duration(seen.waiting / rate)} at {rate:g}/s" if seen.waiting else "nothing waits"
    if seen.waiting / rate > 86_400.0:  # a day
        cure = "push in portions: an access token lives a day at most, and 1 h by default"
        yield advice("queue", f"{said}, longer than any credential lives", cure)
    else:
        yield ok("queue", said)
    if seen.expired:
        said = f"{seen.expired:,} of {seen.waiting:,} credentials have died already"
        yield advice("queue", said, "they will be needs_session: export and sign in again")


def _way(settings: Settings, sessions: int | None) -> Finding:
    rate, validity = settings.rate.effective, settings.cognito.session_validity
    saved = rate * validity
    limit = f"at {rate:g}/s the oldest {_span(validity)} session that can be saved is number {saved:,.0f}"
    if sessions == 0:
        return ok("way", "access tokens wait, or nothing: the user confirms, on a page of the application")
    if settings.cognito.session_handoff:
        wait = "sessions may wait" if sessions is None else f"{sessions:,} sessions wait"
        said = f"{wait}, and somebody verifies in time; {limit}"
        if sessions is not None and sessions > saved:
            return advice("way", said, "sign users in as fast as they are used: pipe them into run --input -")
        return ok("way", said)
    cure = "put access tokens on the queue, or state cognito.session_handoff = true"
    if sessions is None:
        said = (
            "this queue cannot tell what waits. With access tokens the user confirms, on a page of the application; "
            f"with sessions a secret dies unless somebody verifies in time, and {limit}"
        )
        return ok("way", said)
    said = f"{sessions:,} sessions wait: a secret dies with its session unless somebody verifies in time; {limit}"
    return advice("way", said, cure)


def _price(seen: Seen) -> Finding:
    if seen.waiting is None and seen.users is None:
        return ok("price", f"Secrets Manager: ${SECRET_PRICE:.2f} a user and month; good for a pilot")
    users = (seen.waiting or 0) + (seen.users or 0)
    said = f"Secrets Manager: about {users:,} users cost ${users * SECRET_PRICE:,.0f} a month"
    cure = "use channel.kind s3 for a rollout"
    if users > MOST_SECRETS:
        return fails("price", f"{said}, and a Region takes {MOST_SECRETS:,} secrets", cure)
    if users > MANY_SECRETS:
        said = f"{said} (${SECRET_PRICE:.2f} each); {MOST_SECRETS:,} secrets are the limit of a Region"
        return advice("price", said, cure)
    return ok("price", said)


def _span(seconds: float) -> str:
    return f"{seconds / 60:g}-minute" if seconds >= 60 else f"{seconds:g}-second"
