"""How ``check`` asks AWS: briefly, harmlessly, and so that one question's failure hides no other's answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import BAD_CREDENTIALS, FORBIDDEN, MISSING, WIRE, code, fault, status
from worker.adapters.checks.findings import Finding, advice, fails, ok
from worker.core.errors import DependencyUnavailable, WorkerError

PATIENCE = 5.0
"""Seconds for one question."""


@dataclass(frozen=True, slots=True)
class Question:
    """What one service is asked; ``optional``: a role need not be permitted to."""

    about: str
    what: str
    """What is asked about, in words, for where there is no answer."""
    service: str
    """By the SDK's name: ``ask`` gets this service's client."""
    ask: Callable[[Any], Awaitable[Sequence[Finding]]]
    optional: bool = False


@dataclass(slots=True)
class Probe:
    """One action, tried in a way that cannot succeed: permitted where the service refuses for ``refusals`` alone."""

    action: str
    """As IAM calls it, such as ``sqs:DeleteMessage``."""
    call: Coroutine[Any, Any, Any]
    refusals: frozenset[str] = frozenset()
    """Codes that only somebody who is permitted gets to see."""
    without: str = ""
    """What does not work without it, where a run does not always need it."""


def refused(error: BaseException) -> bool:
    """Whether a permission is missing."""
    return code(error) in FORBIDDEN or (status(error) == 403 and code(error) not in BAD_CREDENTIALS)


def missing(error: BaseException) -> bool:
    """Whether what was asked about is not there; emulators call it otherwise."""
    return code(error) in MISSING or code(error) in ("TableNotFoundException", "ResourceNotFound")


async def asked(about: str, what: str, answer: Awaitable[Sequence[Finding]]) -> list[Finding]:
    """The findings of one question; where it gets no answer, that is the finding."""
    try:
        async with asyncio.timeout(PATIENCE):
            return list(await answer)
    except WorkerError as error:
        return [fails(about, str(error), error.hint)]
    except (ClientError, *WIRE) as error:
        if isinstance(error, TimeoutError):
            return [fails(about, f"{what}: no answer in {PATIENCE:g} s", "look at the network and the endpoints")]
        found = fault(error, DependencyUnavailable, what)
        return [fails(about, str(found), found.hint)]


async def optional(about: str, what: str, answer: Awaitable[Sequence[Finding]]) -> list[Finding]:
    """The same for what only an operator may be permitted to ask: a refusal is no flaw, only not known."""
    try:
        async with asyncio.timeout(PATIENCE):
            return list(await answer)
    except (ClientError, *WIRE) as error:
        why = "this role is not permitted to (config/iam/operator.json)" if refused(error) else code(error)
        if isinstance(error, TimeoutError):
            why = f"no answer in {PATIENCE:g} s"
        return [] if missing(error) else [ok(about, f"{what} not looked at: {why}")]


async def permissions(about: str, probes: Sequence[Probe], untried: Mapping[str, str] | None = None) -> list[Finding]:
    """What this process may do; ``untried``: action → why it could not be tried."""
    outcomes = await asyncio.gather(*(_outcome(probe.call) for probe in probes))
    permitted: list[str] = []
    findings: list[Finding] = []
    for probe, error in zip(probes, outcomes, strict=True):
        if error is None or code(error) in probe.refusals:
            permitted.append(probe.action)
        elif refused(error):
            findings.append(_denied(about, probe))
        else:
            cure = "look at the service and the network"
            findings.append(advice(about, f"{probe.action} could not be tried: {code(error)}", cure))
    said = [f"permitted: {', '.join(permitted)}"] if permitted else []
    said += [f"not tried: {action}, because {why}" for action, why in (untried or {}).items()]
    return [*([ok(about, "; ".join(said))] if said else []), *findings]


def _denied(about: str, probe: Probe) -> Finding:
    cure = f"allow it: config/iam has the policies{f'; without it, {probe.without}' if probe.without else ''}"
    return (advice if probe.without else fails)(about, f"{probe.action} is not permitted", cure)


async def _outcome(call: Coroutine[Any, Any, Any]) -> Exception | None:
    try:
        async with asyncio.timeout(PATIENCE):
            await call
    except (ClientError, *WIRE) as error:
        return error
    return None
