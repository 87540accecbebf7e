"""What ``check`` asks the pool about signing users in and activating them: app client, triggers, first factors, rights.

A worker's role need not be permitted to ask. Nobody is signed in, and no user is looked at, which would make a monthly
active user of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from pydantic import SecretStr

from worker.adapters.aws.errors import code
from worker.adapters.checks.findings import Finding, advice, fails, ok
from worker.adapters.checks.probes import Probe, permissions
from worker.settings import Settings

if TYPE_CHECKING:
    from types_aiobotocore_cognito_idp import CognitoIdentityProviderClient

FLOWS = {
    "custom_auth": ("ALLOW_CUSTOM_AUTH", "CUSTOM_AUTH_FLOW_ONLY"),
    "user_password": ("ALLOW_USER_PASSWORD_AUTH", "USER_PASSWORD_AUTH"),
    "admin_user_password": ("ALLOW_ADMIN_USER_PASSWORD_AUTH", "ADMIN_NO_SRP_AUTH"),
}
"""``sign_in.flow`` → what the app client must allow for it, with the older name of the same ("CreateUserPoolClient",
API reference)."""
DEFAULT_FLOWS = ("ALLOW_REFRESH_TOKEN_AUTH", "ALLOW_USER_SRP_AUTH", "ALLOW_CUSTOM_AUTH")
"""What an app client allows for which nobody said it (same page)."""
TRIGGERS = ("DefineAuthChallenge", "CreateAuthChallenge", "VerifyAuthChallengeResponse")
"""The triggers of custom authentication, as a pool's ``LambdaConfig`` names them."""
MAY_REFUSE = ("PreAuthentication", "PostAuthentication", "PreTokenGeneration")
"""Triggers that run with every sign-in: they can refuse it, or tell the user of it."""
MIN_TOKEN = 900.0
"""Seconds that an access token should live at least where users are activated: after a crash a new worker waits for the
dead one's claim, and goes on with the token."""
UNITS = {"seconds": 1.0, "minutes": 60.0, "hours": 3600.0, "days": 86_400.0}
"""Seconds of each of ``TokenValidityUnits``."""

_NO_CLIENT = "correct sign_in.client_id: aws cognito-idp list-user-pool-clients prints them"
_NOBODY = "mfa-worker-check-of-permissions"
"""A username that nobody has."""
_REFUSED_AFTER_PERMISSION = frozenset(
    {"UserNotFoundException", "InvalidParameterException", "NotAuthorizedException", "ResourceNotFoundException"}
)
"""What Cognito answers to a call for nobody, once it found that the caller may make it."""


async def app_client(cognito: CognitoIdentityProviderClient, settings: Settings) -> list[Finding]:
    """Check the app client that users are signed in with (``sign_in.client_id``). Raises what the SDK raises."""
    pool, client_id = settings.cognito.user_pool_id, settings.sign_in.client_id or ""
    try:
        found = (await cognito.describe_user_pool_client(UserPoolId=pool, ClientId=client_id))["UserPoolClient"]
    except ClientError as error:
        if code(error) == "ResourceNotFoundException":
            return [fails("sign-in", f"the pool {pool} has no app client {client_id}", _NO_CLIENT)]
        raise
    return [*_allows(found, settings), *_secret(found, settings), *_lives(found, settings), *_own(found, settings)]


def _allows(client: Mapping[str, Any], settings: Settings) -> Iterator[Finding]:
    """Whether the app client allows the flow."""
    allowed = client.get("ExplicitAuthFlows") or DEFAULT_FLOWS
    wanted = FLOWS[settings.sign_in.flow]
    name = client.get("ClientName", "?")
    if set(wanted) & set(allowed):
        yield ok("sign-in", f"the app client {name} allows {settings.sign_in.flow}")
        return
    cure = f"add {wanted[0]} to its ExplicitAuthFlows (an update that leaves settings out resets them), or use another"
    yield fails("sign-in", f"the app client {name} does not allow {settings.sign_in.flow}", cure)


def _secret(client: Mapping[str, Any], settings: Settings) -> Iterator[Finding]:
    """Whether the app client's secret is the one of the settings. Neither is shown."""
    has, given = client.get("ClientSecret"), settings.sign_in.client_secret
    name = client.get("ClientName", "?")
    if has and given is None:
        cure = "put its secret in a file of mode 0600, and name that in MFA_WORKER_SIGN_IN__CLIENT_SECRET_FILE"
        yield fails("sign-in", f"the app client {name} has a secret, and sign_in.client_secret is not set", cure)
    elif given is not None and not has:
        yield fails("sign-in", f"the app client {name} has no secret, but sign_in.client_secret is set", "leave it out")
    elif has and given is not None:
        if given == SecretStr(str(has)):
            yield ok("sign-in", "sign_in.client_secret is the app client's")
        else:
            cure = f"copy it again from the app client {client.get('ClientId')}"
            yield fails("sign-in", "sign_in.client_secret is not the secret of this app client", cure)


def _lives(client: Mapping[str, Any], settings: Settings) -> Iterator[Finding]:
    """Whether its Sessions and tokens live long enough."""
    name, validity = client.get("ClientName", "?"), settings.cognito.session_validity
    session = 60.0 * (client.get("AuthSessionValidity") or 3)  # minutes; three where it is not set
    if session < validity:
        said = f"cognito.session_validity is {validity:g} s, and sessions of the app client {name} live {session:g} s"
        yield advice("sign-in", said, "lower the setting, or raise AuthSessionValidity of the app client")
    unit = UNITS[client.get("TokenValidityUnits", {}).get("AccessToken", "hours")]
    token = unit * (client.get("AccessTokenValidity") or 3600.0 / unit)  # one hour where it is not set
    said = f"its sessions live {session / 60:g} min, its access tokens {token / 60:g} min"
    if settings.activation.mode != "none" and token < MIN_TOKEN:
        cure = f"raise AccessTokenValidity to {MIN_TOKEN / 60:g} min: after a crash activation goes on with the token"
        yield advice("sign-in", f"{said}, which a crash may outlast", cure)
    elif session >= validity:
        yield ok("sign-in", said)


def _own(client: Mapping[str, Any], settings: Settings) -> Iterator[Finding]:
    """Whether the app client serves the rollout alone: a ticket is a sign-in permission in it."""
    if settings.sign_in.flow != "custom_auth":
        return
    others = {*(client.get("ExplicitAuthFlows") or DEFAULT_FLOWS)} - {*FLOWS["custom_auth"], "ALLOW_REFRESH_TOKEN_AUTH"}
    if others or client.get("AllowedOAuthFlowsUserPoolClient"):
        uses = ", ".join(sorted(others)) or "OAuth"
        said = f"the app client {client.get('ClientName', '?')} serves others too ({uses})"
        cure = "give the rollout one of its own: whoever has a ticket can sign in there (config/sign-in makes one)"
        yield advice("sign-in", said, cure)


async def pool_itself(cognito: CognitoIdentityProviderClient, settings: Settings) -> tuple[list[Finding], str | None]:
    """Check the pool's triggers and first factors; return its feature plan too. Raises what the SDK raises."""
    try:
        found = (await cognito.describe_user_pool(UserPoolId=settings.cognito.user_pool_id))["UserPool"]
    except ClientError as error:
        if code(error) == "ResourceNotFoundException":  # another question says so
            return [], None
        raise
    findings = [*_triggers(found, settings), *_watched(found, settings), *_first_factors(found, settings)]
    return findings, found.get("UserPoolTier")


def _triggers(pool: Mapping[str, Any], settings: Settings) -> Iterator[Finding]:
    """Whether the pool has what a flow needs, and what else runs with every sign-in."""
    attached = pool.get("LambdaConfig", {})
    if settings.sign_in.flow == "none":
        return
    if settings.sign_in.flow == "custom_auth":
        if missing := [name for name in TRIGGERS if not attached.get(name)]:
            said = f"the pool has no function for {', '.join(missing)}: nobody can sign in with a ticket"
            yield fails("sign-in", said, "install the triggers: config/sign-in/README.md")
        else:
            yield ok("sign-in", "the pool has functions for the three triggers of custom authentication")
    if others := [name for name in MAY_REFUSE if attached.get(name)]:
        said = f"the pool has functions for {', '.join(others)}, which run with every sign-in"
        yield advice(
            "sign-in", said, "see that they refuse nobody here, and mail nobody: a trial with one user shows it"
        )


def _watched(pool: Mapping[str, Any], settings: Settings) -> Iterator[Finding]:
    """Whether the pool judges sign-ins: many users from one address is what it looks for."""
    mode = pool.get("UserPoolAddOns", {}).get("AdvancedSecurityMode")
    if settings.sign_in.flow != "none" and mode == "ENFORCED":
        said = "threat protection is enforced: sign-ins of many users from one address may be refused, or told to them"
        cure = "list the workers' addresses as always allowed (SetRiskConfiguration), for the time of the rollout"
        yield advice("sign-in", said, cure)


def _first_factors(pool: Mapping[str, Any], settings: Settings) -> Iterator[Finding]:
    """Whether users may sign in without a password: whom TOTP is activated for may no longer."""
    factors = pool.get("Policies", {}).get("SignInPolicy", {}).get("AllowedFirstAuthFactors", [])
    if settings.activation.mode != "none" and (without := [name for name in factors if name != "PASSWORD"]):
        said = (
            f"users may sign in without a password ({', '.join(without)}), which Cognito does not allow together with "
            "MFA: activating TOTP locks out whoever signs in only that way"
        )
        cure = "leave these users out, or see that they have a password (passkeys with user verification may be exempt)"
        yield advice("activation", said, cure)


async def permitted(cognito: CognitoIdentityProviderClient, settings: Settings) -> list[Finding]:
    """Try whether the signed calls are permitted: one without a user, the other for somebody who does not exist."""
    pool, probes = settings.cognito.user_pool_id, list[Probe]()
    if settings.sign_in.flow == "admin_user_password" and settings.sign_in.client_id:
        begin = cognito.admin_initiate_auth(
            UserPoolId=pool,
            ClientId=settings.sign_in.client_id,
            AuthFlow="ADMIN_USER_PASSWORD_AUTH",
            AuthParameters={},
        )
        probes.append(Probe("cognito-idp:AdminInitiateAuth", begin, _REFUSED_AFTER_PERMISSION))
    if settings.activation.mode == "prefer":
        prefer = cognito.admin_set_user_mfa_preference(UserPoolId=pool, Username=_NOBODY)
        without = "users with a Session are verified, but TOTP is not set as their preferred factor"
        probes.append(Probe("cognito-idp:AdminSetUserMFAPreference", prefer, _REFUSED_AFTER_PERMISSION, without))
    return await permissions("sign-in", probes)
