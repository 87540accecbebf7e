"""The ways into the user pool that a rollout opened: the triggers of its tickets, and its app client.

The triggers are this rollout's where the stack that made its app client made their function too. A trigger of anything
else is left. The app client is deleted only where somebody types its id, because other applications may use it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from worker.adapters.aws import pool_ending
from worker.adapters.aws.session import Aws
from worker.adapters.aws.stacks import stack_of
from worker.adapters.private_files import write_private
from worker.app.ending.plan import Item
from worker.core.errors import DependencyUnavailable
from worker.settings import Settings


@dataclass(frozen=True, slots=True)
class WaysIn:
    """What is removed, and what stays."""

    functions: Mapping[str, str]
    """The triggers that are detached: name → ARN."""
    client: str | None
    """The name of the app client that is deleted; ``None``: none is."""
    stays: tuple[Item, ...] = ()


async def look(settings: Settings, aws: Aws, app_client: str | None) -> WaysIn:
    """Look at the pool. Raises ``DependencyUnavailable``, ``PersonMustAct``."""
    pool_id, client_id = settings.cognito.user_pool_id, settings.sign_in.client_id or ""
    cognito = await aws.client("cognito-idp")
    pool = await pool_ending.read(cognito, pool_id)
    name = await pool_ending.client_name(cognito, pool_id, client_id) if pool else None
    if pool is None:
        return WaysIn({}, None)
    stack = await stack_of(await aws.client("cloudformation"), client_id) if name is not None else None
    attached = pool_ending.triggers(pool) if settings.sign_in.flow == "custom_auth" else {}
    made = stack.resources if stack else frozenset[str]()
    ours = {each: arn for each, arn in attached.items() if {arn, arn.rpartition(":")[2]} & made}
    stays = [
        Item(
            f"the pool's trigger {each}, which may be another application's",
            arn,
            f"python config/sign-in/attach.py --user-pool-id {pool_id} --function {arn} --detach --yes",
        )
        for each, arn in attached.items()
        if each not in ours
    ]
    if stack:
        stays.append(Item("app client, function and ticket key", f"the stack {stack.name}", f"then: {stack.cure}"))
    elif name is not None and app_client is None:
        cure = f"if no other application uses it: --app-client {client_id}"
        stays.append(Item(f"the app client {name!r}", client_id, cure))
    deletes = name if app_client is not None and stack is None else None
    return WaysIn(ours, deletes, tuple(stays))


async def shut_triggers(settings: Settings, aws: Aws, ways: WaysIn, copy: Path) -> None:
    """Detach the triggers, after a copy of the pool was kept in that file. Raises as ``look`` does."""
    pool_id, cognito = settings.cognito.user_pool_id, await aws.client("cognito-idp")
    pool = await pool_ending.read(cognito, pool_id)
    if pool is None or not pool_ending.triggers(pool).items() & ways.functions.items():
        return
    try:
        write_private(copy, json.dumps({"UserPool": pool}, indent=2, default=str).encode(), what="the copy of the pool")
    except OSError as error:
        raise DependencyUnavailable(
            f"the copy of the pool cannot be written to {copy}: {error.strerror}", "free space, and run it again"
        ) from None
    await pool_ending.detach(cognito, pool_id, pool, ways.functions)


async def delete_client(settings: Settings, aws: Aws) -> None:
    """Delete the rollout's app client. Raises ``DependencyUnavailable``."""
    cognito = await aws.client("cognito-idp")
    await pool_ending.delete_client(cognito, settings.cognito.user_pool_id, settings.sign_in.client_id or "")
