"""What ``check`` asks about the user pool and the account, as far as its role permits.

It asks whether Cognito can be reached and what time it is there, whether the pool allows TOTP, how long its Sessions
live, and for the quota.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code
from worker.adapters.checks.findings import Finding, advice, fails, not_checked, ok
from worker.adapters.checks.probes import PATIENCE
from worker.adapters.cognito.client import cognito as cognito_client
from worker.core.clock import DATE_PRECISION, EndpointClock, SystemClock
from worker.core.config import ActivationMode
from worker.core.errors import UsageError
from worker.core.ports import TimeAnswer
from worker.engine.endpoint_time import NO_TIME_CURE, ask
from worker.settings import Settings
from worker.setup.checks.rollout import QUOTA

if TYPE_CHECKING:
    from types_aiobotocore_cognito_idp import CognitoIdentityProviderClient
    from types_aiobotocore_service_quotas import ServiceQuotasClient
    from types_aiobotocore_sts import STSClient

WORTH_MENDING = 5.0
"""Seconds. A machine whose time service works is right to a fraction of a second; above this, it probably does not."""

_QUOTA_NAME = "UserResourceUpdate"
"""The quota that every call of a rollout counts against ("Quotas in Amazon Cognito", developer guide)."""

_QUOTA_CODE = "L-574C86AE"
"""The code of this quota in Service Quotas; a name there may change, a code does not."""


async def reach(settings: Settings) -> list[Finding]:
    """Check that Cognito's endpoint answers within five seconds, asked as a run asks it, and compare its clock."""
    where, clock = settings.cognito.endpoint_url or f"https://{_host(settings)}", EndpointClock(SystemClock())
    try:
        async with (
            asyncio.timeout(PATIENCE),
            cognito_client(
                region=settings.cognito.region,
                endpoint_url=settings.cognito.endpoint_url,
                fips=settings.aws.fips,
                call_timeout=PATIENCE,
                concurrency=1,
                clock=clock,
            ) as endpoint,
        ):
            answer = await ask(endpoint, clock)
    except UsageError as unusable:
        return [fails("cognito", str(unusable), unusable.hint)]
    except TimeoutError:
        answer = TimeAnswer(told=False, trouble=f"no answer in {PATIENCE:g} s")
    if answer.trouble:
        network = "check network, proxy (HTTPS_PROXY) and cognito.endpoint_url"
        certificate = "let AWS_CA_BUNDLE name a file with the certificate of whoever signed it, such as your proxy's"
        cure = certificate if "certificate" in answer.trouble else network
        return [fails("cognito", f"cannot connect to {where}: {answer.trouble}", cure)]
    return [ok("cognito", f"{where} can be reached"), *_compared(clock, settings.ledger.clock_skew)]


def _compared(clock: EndpointClock, allowed: float) -> list[Finding]:
    """Compare the clocks; ``allowed``: the seconds by which the machines' clocks may differ (``ledger.clock_skew``)."""
    if wrong := clock.wrong():
        return [fails("clock", str(wrong), wrong.hint)]
    if clock.skew is None:
        said = "Cognito's answers are not dated, so nobody compared this machine's clock"
        return [advice("clock", said, NO_TIME_CURE)]
    off = abs(clock.skew)
    said = f"this machine's clock is {off:.0f} s {'behind' if clock.skew > 0 else 'ahead of'} Cognito's"
    if off <= WORTH_MENDING:
        said = said if off >= 2 * DATE_PRECISION else "this machine's clock is right, compared with Cognito's"
        return [ok("clock", said)]
    found = [
        advice("clock", f"{said}, which a run corrects", "set the clock (NTP): beyond a minute, a run refuses to begin")
    ]
    if off > allowed:
        said = f"{said}, more than ledger.clock_skew ({allowed:g} s): a worker whom Cognito tells no time may be wrong"
        found.append(advice("clock", said, "set the clock (NTP), or raise ledger.clock_skew"))
    return found


def _host(settings: Settings) -> str:
    region = settings.cognito.region
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"cognito-idp{'-fips' if settings.aws.fips else ''}.{region}.{suffix}"


async def identity(sts: STSClient) -> list[Finding]:
    """Return which account and role this process has on AWS. Raises what the SDK raises."""
    found = await sts.get_caller_identity()
    return [ok("aws", f"account {found.get('Account')}, {found.get('Arn', '').rpartition(':')[2]}")]


async def mfa(cognito: CognitoIdentityProviderClient, settings: Settings) -> list[Finding]:
    """Check that the pool allows TOTP. Raises what the SDK raises."""
    pool = settings.cognito.user_pool_id
    try:
        found = await cognito.get_user_pool_mfa_config(UserPoolId=pool)
    except ClientError as error:
        if code(error) == "ResourceNotFoundException":
            return [fails("pool", f"there is no pool {pool} here", "correct cognito.user_pool_id and cognito.region")]
        raise
    setting = found.get("MfaConfiguration", "OFF")
    if setting == "OFF" or not found.get("SoftwareTokenMfaConfiguration", {}).get("Enabled"):
        said = f"TOTP is off: MFA is {setting.lower()}, authenticator apps are not enabled"
        return [fails("pool", said, "make MFA optional, with authenticator apps, before the run")]
    if setting == "ON":
        return [_required(settings)]
    said = "MFA is optional, and authenticator apps are enabled"
    if ActivationMode(settings.activation.mode) is ActivationMode.VERIFY:
        said += ": who has verified a secret is asked for codes only once TOTP is preferred, too"
        return [advice("pool", said, 'activation.mode = "prefer", unless your application sets the preference')]
    return [ok("pool", said)]


def _required(settings: Settings) -> Finding:
    """What it means for the configured way that MFA is required."""
    said = "MFA is required: users without a second factor get no access token until they have set one up"
    if settings.sign_in.flow == "custom_auth":
        said = "MFA is required, and Cognito does not support a second factor after custom authentication"
        return advice("pool", said, "make it optional for the time of the rollout, or sign users in with passwords")
    if settings.activation.mode != "none":
        return ok("pool", "MFA is required, and authenticator apps are enabled: users get a Session, and are activated")
    cure = 'let the worker verify (activation.mode = "verify"), make it optional until people have confirmed, or hand '
    return advice("pool", said, f"{cure}over sessions in time")


async def sessions(cognito: CognitoIdentityProviderClient, pool: str, validity: float) -> list[Finding]:
    """Check that Sessions live as long as the settings say (``validity``, seconds). Raises what the SDK raises.

    Only the first 20 app clients are checked: few pools have more, and each costs a call.
    """
    listed = await cognito.list_user_pool_clients(UserPoolId=pool, MaxResults=20)
    ids = [each["ClientId"] for each in listed["UserPoolClients"] if "ClientId" in each]
    clients = await asyncio.gather(
        *(cognito.describe_user_pool_client(UserPoolId=pool, ClientId=each) for each in ids[:20])
    )
    lives = {  # seconds; where AuthSessionValidity is not set, three minutes (API reference, CreateUserPoolClient)
        client.get("ClientName", "?"): client.get("AuthSessionValidity", 3) * 60.0
        for client in (each["UserPoolClient"] for each in clients)
    }
    short = [f"{name} ({seconds / 60:g} min)" for name, seconds in sorted(lives.items()) if seconds < validity]
    if short:
        said = f"cognito.session_validity is {validity:g} s, and sessions of {', '.join(short)} die sooner"
        return [advice("pool", said, "raise AuthSessionValidity of the app client that signs in, or lower the setting")]
    if not lives:
        return []
    said = f"sessions of {len(lives)} app client{'s' if len(lives) != 1 else ''} live {validity:g} s or longer"
    rest = [not_checked("pool", "the app clients after the first 20")] if listed.get("NextToken") else []
    return [ok("pool", said), *rest]


async def quota(quotas: ServiceQuotasClient, rate: float) -> list[Finding]:
    """Check that the account's real quota allows ``rate`` (requests/s). Raises what the SDK raises."""
    token = ""
    for _ in range(10):  # pages of 100 quotas: a limit, so that this ends whatever is answered
        more = {"NextToken": token} if token else {}
        page = await quotas.list_service_quotas(ServiceCode="cognito-idp", MaxResults=100, **more)  # type: ignore[arg-type]
        for each in page["Quotas"]:
            if each.get("QuotaCode") == _QUOTA_CODE or _QUOTA_NAME in each.get("QuotaName", ""):
                return [_judged(each.get("Value", QUOTA), rate)]
        if not (token := page.get("NextToken", "")):
            break
    return [not_checked("quota", f"Service Quotas does not tell {_QUOTA_NAME}; {QUOTA:g}/s is taken for granted")]


def _judged(value: float, rate: float) -> Finding:
    said = f"Cognito takes {value:g}/s of this account ({_QUOTA_NAME}), and this ledger may send {rate:g}/s"
    if rate > value:
        return advice("quota", said, "lower rate.requests_per_second: whatever is above it is refused")
    if rate > 0.9 * value:
        return advice("quota", said, "leave live users, who set up MFA from the same quota, a part of it")
    return ok("quota", said)
