"""What ``check`` says of the price of signing users in: how many sign-ins a second it takes, and how many dollars."""

from __future__ import annotations

import math
from collections.abc import Iterator

from worker.adapters.checks.findings import Finding, advice, not_checked, ok
from worker.adapters.checks.seen import Seen
from worker.settings import Settings

SIGN_IN_QUOTA = 120.0
"""Requests/s of sign-ins (UserAuthentication; "Quotas in Amazon Cognito", developer guide). It can be raised."""
SIGN_IN_CALLS = {"custom_auth": 2, "user_password": 1, "admin_user_password": 1}
"""``sign_in.flow`` → requests of one sign-in: a ticket is the answer to a challenge."""
PRICES = {"LITE": 0.0055, "ESSENTIALS": 0.015}
"""A pool's feature plan → dollars for each monthly active user (list prices, November 2026; "Cognito pricing")."""
FREE = 10_000
"""Monthly active users of an account that cost nothing (same page)."""


def pace(settings: Settings) -> Iterator[Finding]:
    """Whether users can be signed in as fast as they are called for, and within the quota."""
    if settings.sign_in.flow == "none":
        return
    rate, calls = settings.sign_in.requests_per_second, SIGN_IN_CALLS[settings.sign_in.flow]
    needed = calls * settings.users_per_second
    allowed = _per_second(settings.users_per_second)
    said = f"{rate:g} sign-in requests/s, of which a user costs {calls}: {_per_second(rate / calls)} users/s"
    if rate > SIGN_IN_QUOTA and settings.cognito.endpoint_url is None:
        cure = f"Cognito takes {SIGN_IN_QUOTA:g}/s of the whole account by default, live users included"
        yield advice("sign-in", said, f"lower sign_in.requests_per_second, unless the quota was raised: {cure}")
    elif rate < needed:
        cure = f"raise sign_in.requests_per_second to {math.ceil(needed)}, or the sign-ins are what everybody waits for"
        yield advice("sign-in", f"{said}, fewer than the {allowed} that the calls allow", cure)
    else:
        yield ok("sign-in", f"{said}, and the calls allow {allowed}")


def _per_second(users: float) -> str:
    return f"{round(users, 1 if users >= 10 else 2):g}"


def price(settings: Settings, seen: Seen) -> Iterator[Finding]:
    """What it costs that users are signed in: each becomes a monthly active user, if they were none this month."""
    if settings.sign_in.flow == "none":
        return
    plans = {seen.tier: PRICES[seen.tier]} if seen.tier in PRICES else PRICES
    each_costs = " or ".join(f"${each:g} with {plan.capitalize()}" for plan, each in plans.items())
    source = "list prices, November 2026; Plus costs more" if len(plans) > 1 else "list price, November 2026"
    if seen.waiting is None or seen.tier not in {None, *PRICES}:
        said = f"whoever signs in becomes a monthly active user: {each_costs} each, after {FREE:,} a month ({source})"
        yield not_checked("price", said)
        return
    paid = max(0, seen.waiting - FREE)
    total = " or ".join(f"${paid * each:,.0f} ({plan.capitalize()})" for plan, each in plans.items())
    said = f"{seen.waiting:,} sign in, and become monthly active users if they are dormant: at most {total}; {source}"
    if paid:
        yield advice("price", said, "it is paid in each month in which they sign in: keep the rollout within one")
    else:
        yield ok(
            "price", f"{seen.waiting:,} sign in: within the {FREE:,} monthly active users that are free ({source})"
        )
