"""The user pool at the end of a rollout: its triggers and the rollout's app client.

UpdateUserPool sets whatever it is not given back to its default, so the whole pool is sent back as it was read, with
the triggers changed, and read again. ``config/sign-in/attach.py`` does the same by hand.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import faults, is_missing
from worker.core.errors import DependencyUnavailable, PersonMustAct

TRIGGERS = ("DefineAuthChallenge", "CreateAuthChallenge", "VerifyAuthChallengeResponse")
"""The triggers of custom authentication, as ``LambdaConfig`` names them."""
ALWAYS_DIFFERENT = frozenset({"LambdaConfig", "LastModifiedDate", "EstimatedNumberOfUsers"})
"""What of a pool may differ before and after."""
WHAT = "the user pool"
"""What errors call it."""

Pool = Mapping[str, Any]
"""A pool as DescribeUserPool returns it."""


async def read(cognito: Any, pool_id: str) -> Pool | None:
    """The whole pool; ``None`` if there is none. Raises ``DependencyUnavailable``; ``PersonMustAct`` if this SDK does
    not know all of it, so that sending it back would lose something.
    """
    raw: list[bytes] = []

    def keep(response_dict: Any, **_: Any) -> None:
        raw.append(response_dict["body"])

    cognito.meta.events.register("before-parse.cognito-idp.DescribeUserPool", keep)
    try:
        with faults(DependencyUnavailable, WHAT):
            try:
                found: Pool = (await cognito.describe_user_pool(UserPoolId=pool_id))["UserPool"]
            except ClientError as error:
                if is_missing(error):
                    return None
                raise
    finally:
        cognito.meta.events.unregister("before-parse.cognito-idp.DescribeUserPool", keep)
    if unknown := sorted({*_unknown(json.loads(raw[-1]).get("UserPool", {}) if raw else {}, found)}):
        raise PersonMustAct(
            f"this SDK does not know {', '.join(unknown)} of the pool, and would set it back to its default",
            "pip install --upgrade boto3 in an environment of its own, and detach there: python "
            f"config/sign-in/attach.py --user-pool-id {pool_id} --function ARN --detach --yes",
        )
    return found


def _unknown(raw: Any, parsed: Any, where: str = "") -> Iterator[str]:
    """The names that were answered, and that the SDK left out because its model has no such setting."""
    if isinstance(raw, dict) and isinstance(parsed, dict):
        for key, value in raw.items():
            if key not in parsed and value is not None:
                yield f"{where}{key}"
            elif key in parsed:
                yield from _unknown(value, parsed[key], f"{where}{key}.")
    elif isinstance(raw, list) and isinstance(parsed, list):
        for each, known in zip(raw, parsed, strict=False):
            yield from _unknown(each, known, where)


def triggers(pool: Pool) -> Mapping[str, str]:
    """The functions of custom authentication: trigger → ARN."""
    present = pool.get("LambdaConfig", {})
    return {name: present[name] for name in TRIGGERS if present.get(name)}


async def detach(cognito: Any, pool_id: str, before: Pool, functions: Mapping[str, str]) -> None:
    """Take these functions away, and nothing else. Raises ``DependencyUnavailable``, ``PersonMustAct``."""
    known = cognito.meta.service_model.operation_model("UpdateUserPool").input_shape.members
    request = {key: before[key] for key in known if before.get(key)}  # what is empty is the default
    left = {name: value for name, value in before.get("LambdaConfig", {}).items() if functions.get(name) != value}
    request |= {"UserPoolId": pool_id, "LambdaConfig": left}
    if "PoolName" in known:
        request["PoolName"] = before["Name"]
    if "TemporaryPasswordValidityDays" in before.get("Policies", {}).get("PasswordPolicy", {}):
        # Cognito describes this older name of the same setting too, and refuses it beside the newer one.
        created = request.get("AdminCreateUserConfig", {})
        request["AdminCreateUserConfig"] = {k: v for k, v in created.items() if k != "UnusedAccountValidityDays"}
    with faults(DependencyUnavailable, WHAT):
        await cognito.update_user_pool(**request)
    after = await read(cognito, pool_id) or {}
    changed = sorted(key for key in {*before, *after} - ALWAYS_DIFFERENT if before.get(key) != after.get(key))
    if after.get("LambdaConfig", {}) != left:
        changed.append("LambdaConfig")
    if changed:
        raise PersonMustAct(
            f"something else of the pool changed with its triggers: {', '.join(changed)}",
            "compare the pool with the copy that was kept of it, and set that again",
        )


async def client_name(cognito: Any, pool_id: str, client_id: str) -> str | None:
    """The name of the app client; ``None`` if there is none. Raises ``DependencyUnavailable``."""
    with faults(DependencyUnavailable, "the app client"):
        try:
            found = await cognito.describe_user_pool_client(UserPoolId=pool_id, ClientId=client_id)
        except ClientError as error:
            if is_missing(error):
                return None
            raise
        return str(found["UserPoolClient"].get("ClientName", ""))


async def delete_client(cognito: Any, pool_id: str, client_id: str) -> None:
    """Delete the app client; nobody can sign in there any more. Raises ``DependencyUnavailable``."""
    with faults(DependencyUnavailable, "the app client"):
        try:
            await cognito.delete_user_pool_client(UserPoolId=pool_id, ClientId=client_id)
        except ClientError as error:
            if not is_missing(error):
                raise
