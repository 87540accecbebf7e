"""Attaches the triggers' function to a user pool that exists, or takes it away, and changes nothing else of the pool.

    python config/sign-in/attach.py --user-pool-id POOL --function ARN              # shows what would change
    python config/sign-in/attach.py --user-pool-id POOL --function ARN --yes        # does it
    python config/sign-in/attach.py --user-pool-id POOL --function ARN --detach --yes

UpdateUserPool sets whatever it is not given back to its default ("UpdateUserPool", API reference). So this reads the
whole pool, keeps a copy of it in a file, sends all of it back with the three triggers changed, reads it again, and says
what else is different now: nothing should be. It needs boto3, which mfa-worker has, and the permissions
``cognito-idp:DescribeUserPool``, ``GetUserPoolMfaConfig`` and ``UpdateUserPool`` on the pool.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import boto3
from botocore.exceptions import BotoCoreError, ClientError

TRIGGERS = ("DefineAuthChallenge", "CreateAuthChallenge", "VerifyAuthChallengeResponse")
"""The triggers of custom authentication, as ``LambdaConfig`` names them. A pool has one function for each."""
ALWAYS_DIFFERENT = frozenset({"LambdaConfig", "LastModifiedDate", "EstimatedNumberOfUsers"})
"""What of a pool may differ before and after."""


class RefusedError(Exception):
    """Nothing was changed; the text says why, and what to do."""


class Pool:
    """The pool as Cognito describes it, as JSON."""

    def __init__(self, client: Any, pool_id: str, ignored: Collection[str] = ()) -> None:
        self._client = client
        self._id = pool_id
        self._ignored = ignored
        self._raw = b"{}"
        client.meta.events.register("before-parse.cognito-idp.DescribeUserPool", self._keep)

    def _keep(self, response_dict: dict[str, Any], **_: Any) -> None:
        self._raw = response_dict["body"]

    def read(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The pool, and its MFA settings. Raises ``RefusedError`` if this SDK does not know all of it."""
        found = self._client.describe_user_pool(UserPoolId=self._id)["UserPool"]
        if unknown := sorted({*_unknown(json.loads(self._raw).get("UserPool", {}), found)}.difference(self._ignored)):
            raise RefusedError(
                f"this boto3 does not know {', '.join(unknown)} of the pool, and would set it back to its default: "
                "pip install --upgrade boto3 in an environment of its own, and run this there (or --ignore NAME, if "
                "you are sure)"
            )
        mfa = self._client.get_user_pool_mfa_config(UserPoolId=self._id)
        return found, {key: value for key, value in mfa.items() if key != "ResponseMetadata"}

    def change(self, pool: dict[str, Any], lambda_config: dict[str, str]) -> None:
        """Send the whole pool back, with these triggers."""
        known = self._client.meta.service_model.operation_model("UpdateUserPool").input_shape.members
        request = {key: pool[key] for key in known if pool.get(key)}  # what is empty is the default
        request |= {"UserPoolId": self._id, "LambdaConfig": lambda_config}
        if "PoolName" in known:
            request["PoolName"] = pool["Name"]
        if "TemporaryPasswordValidityDays" in pool.get("Policies", {}).get("PasswordPolicy", {}):
            # Cognito describes this older name of the same setting too, and refuses it beside the newer one.
            created = request.get("AdminCreateUserConfig", {})
            request["AdminCreateUserConfig"] = {k: v for k, v in created.items() if k != "UnusedAccountValidityDays"}
        self._client.update_user_pool(**request)


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


def wanted(present: dict[str, str], function: str, *, detach: bool) -> dict[str, str]:
    """The pool's triggers as they shall be. Raises ``RefusedError`` where another function is one of the three."""
    others = {name: arn for name in TRIGGERS if (arn := present.get(name)) and arn != function}
    if detach:
        return {name: value for name, value in present.items() if name not in TRIGGERS or name in others}
    if others:
        taken = ", ".join(f"{name} ({arn})" for name, arn in others.items())
        raise RefusedError(
            f"the pool has {taken} already, and can have one function only for each: let that function call this one's "
            "for its app client (README.md, 'A pool that uses custom authentication already')"
        )
    return {**present, **dict.fromkeys(TRIGGERS, function)}


def main(arguments: list[str]) -> int:
    """Show or make the change; return the exit code: 0 done or shown, 1 something else changed too, 2 refused."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--user-pool-id", required=True, metavar="POOL")
    parser.add_argument("--function", required=True, metavar="ARN", help="output TriggersArn of the stack")
    parser.add_argument("--detach", action="store_true", help="take the function away again")
    parser.add_argument("--yes", action="store_true", help="make the change, and not only show it")
    parser.add_argument("--ignore", action="append", default=[], metavar="NAME", help="a setting that need not be kept")
    given = parser.parse_args(arguments)
    if not given.function.startswith("arn:") or ":function:" not in given.function:
        parser.error("--function takes the function's ARN: output TriggersArn of the stack")
    try:
        return _change(given)
    except RefusedError as refused:
        _say(f"refused, nothing was changed: {refused}", sys.stderr)
    except (ClientError, BotoCoreError) as error:
        _say(f"AWS: {error}", sys.stderr)
    return 2


def _say(text: str, out: TextIO = sys.stdout) -> None:
    out.write(f"{text}\n")


def _change(given: argparse.Namespace) -> int:
    region = given.user_pool_id.partition("_")[0]
    client = boto3.Session().client("cognito-idp", region_name=region)
    pool = Pool(client, given.user_pool_id, given.ignore)
    before, mfa_before = pool.read()
    present = before.get("LambdaConfig", {})
    triggers = wanted(present, given.function, detach=given.detach)
    if triggers == present:
        _say("nothing to change: the pool's triggers are like that")
        return 0
    for name in TRIGGERS:
        _say(f"{name}: {present.get(name, 'none')} -> {triggers.get(name, 'none')}")
    if not given.yes:
        _say("nothing was changed: add --yes to do it")
        return 0
    copy = Path(f"{given.user_pool_id}-{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}.json")
    with copy.open("x", encoding="utf-8") as file:
        json.dump({"UserPool": before, "MfaConfig": mfa_before}, file, indent=2, default=str)
    _say(f"the pool as it was is in {copy}")
    pool.change(before, triggers)
    after, mfa_after = pool.read()
    changed = [key for key in {*before, *after} - ALWAYS_DIFFERENT if before.get(key) != after.get(key)]
    changed += [f"MFA: {key}" for key in {*mfa_before, *mfa_after} if mfa_before.get(key) != mfa_after.get(key)]
    if after.get("LambdaConfig", {}) != triggers:
        changed.append("LambdaConfig")
    if changed:
        _say(f"SOMETHING ELSE CHANGED TOO: {', '.join(sorted(changed))}: compare with {copy}", sys.stderr)
        return 1
    _say("done: the three triggers, and nothing else of the pool")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
