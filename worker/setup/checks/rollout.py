"""What ``check`` concludes about the rollout itself: who can open secrets, what users see, how long it takes."""

from __future__ import annotations

from collections.abc import Iterator

from worker.adapters import channels
from worker.adapters.checks.findings import Finding, advice, fails, not_checked, ok
from worker.adapters.checks.seen import Seen
from worker.core.forecast import a_user_costs
from worker.core.words import time_left
from worker.settings import Settings
from worker.setup.checks import sign_in_cost

QUOTA = 25.0
"""Requests/s that Cognito accepts by default from an account in a Region (UserResourceUpdate; "Quotas in Amazon
Cognito", developer guide)."""


def look(settings: Settings) -> list[Finding]:
    """Return the findings that need only the settings."""
    return [*_pool(settings), _otp(settings), _rate(settings), *sign_in_cost.pace(settings)]


def look_at(settings: Settings, seen: Seen) -> list[Finding]:
    """Return the findings that need to know what waits."""
    return [
        *_backlog(settings, seen),
        _way(settings, seen.sessions),
        *sign_in_cost.price(settings, seen),
        *channels.kind_of(settings.channel).checks().look_at_size(seen),
    ]


def _pool(settings: Settings) -> list[Finding]:
    pool, region = settings.cognito.user_pool_id, settings.cognito.region
    if pool.partition("_")[0] == region:
        return []
    level = fails if settings.cognito.endpoint_url is None else advice
    said = f"the pool {pool} is in another Region than cognito.region says ({region}): Cognito does not know it there"
    return [level("pool", said, "leave cognito.region out: the pool's name has it")]


def _otp(settings: Settings) -> Finding:
    issuer = settings.otp.issuer
    said = f"people will see {issuer!r} in their app"
    if issuer == settings.cognito.user_pool_id:
        said = f"otp.issuer is not set (blanks and colons alone count as not set): {said}"
        return advice("otp", said, "name your service in otp.issuer")
    if ":" in issuer:
        said = f"people will see {issuer.replace(':', '')!r} in their app: colons are left out of otp.issuer"
        return advice("otp", said, "write it without a colon")
    return ok("otp", said)


def _rate(settings: Settings) -> Finding:
    rate = settings.rate.effective
    said = (
        f"{rate:g} requests/s{a_user_costs(rate, settings.calls_per_user)} for all workers of this ledger together; "
        "other tools and live users of the same account and Region are not seen"
    )
    if rate > QUOTA and settings.cognito.endpoint_url is None:
        cure = f"set rate.requests_per_second below {QUOTA:g}; rate.share is this ledger's part of it"
        return advice("rate", f"{said}, and Cognito takes {QUOTA:g} of all", cure)
    return ok("rate", f"{said} (rate.share is this ledger's part)")


def _backlog(settings: Settings, seen: Seen) -> Iterator[Finding]:
    if seen.waiting is None:
        return
    rate, seconds = settings.rate.effective, seen.waiting / settings.users_per_second
    pace = f"{rate:g}/s{a_user_costs(rate, settings.calls_per_user)}"
    said = f"{seen.waiting:,} wait: {time_left(seconds)} at {pace}" if seen.waiting else "nothing waits"
    if seconds > 86_400.0 and settings.sign_in.flow == "none":  # a day
        cure = "push in portions: an access token lives a day at most, and 1 h by default"
        yield advice("queue", f"{said}, longer than any credential lives", cure)
    else:
        yield ok("queue", said)
    if seen.expired:
        said = f"{seen.expired:,} of {seen.waiting:,} credentials have died already"
        cure = "their users will be needs_session, unless another request of theirs waits: push a new credential"
        yield advice("queue", said, cure)


def _way(settings: Settings, sessions: int | None) -> Finding:
    rate, validity = settings.rate.effective, settings.cognito.session_validity
    saved = settings.users_per_second * validity
    pace = f"{rate:g}/s{a_user_costs(rate, settings.calls_per_user)}"
    limit = f"at {pace} the oldest {_span(validity)} session that can be saved is number {saved:,.0f}"
    activates = settings.activation.mode != "none"
    if settings.sign_in.flow != "none" and not sessions:
        return _signs_in(settings)
    if sessions == 0 and activates:
        return ok("way", "access tokens wait, or nothing: the worker activates at once")
    if sessions == 0:
        return ok("way", "access tokens wait, or nothing: the user confirms, on a page of the application")
    if settings.cognito.session_handoff or activates:
        wait = "sessions may wait" if sessions is None else f"{sessions:,} sessions wait"
        said = f"{wait}, and {'the worker' if activates else 'somebody'} verifies in time; {limit}"
        if sessions is not None and sessions > saved:
            return advice("way", said, "sign users in as fast as they are used: pipe them into run --input -")
        return ok("way", said)
    cure = "put access tokens on the queue, or state cognito.session_handoff = true"
    if sessions is None:
        said = (
            "this queue cannot tell what waits. With access tokens the user confirms, on a page of the application; "
            f"with sessions a secret dies unless somebody verifies in time, and {limit}"
        )
        return not_checked("way", said)
    said = f"{sessions:,} sessions wait: a secret dies with its session unless somebody verifies in time; {limit}"
    return advice("way", said, cure)


def _signs_in(settings: Settings) -> Finding:
    """What comes of users who are signed in when it is their turn."""
    what = "tickets" if settings.sign_in.flow == "custom_auth" else "passwords"
    said = f"users are signed in with {what} when it is their turn"
    if settings.activation.mode != "none":
        return ok("way", f"{said}, and activated at once")
    if settings.sign_in.flow == "custom_auth":
        return ok("way", f"{said}, and confirm on a page of the application")
    said = f"{said}; a user who gets a Session has to verify while it lives, {_span(settings.cognito.session_validity)}"
    cure = 'let the worker do that: activation.mode = "verify" (or state cognito.session_handoff = true)'
    return ok("way", said) if settings.cognito.session_handoff else advice("way", said, cure)


def _span(seconds: float) -> str:
    return f"{seconds / 60:g}-minute" if seconds >= 60 else f"{seconds:g}-second"
