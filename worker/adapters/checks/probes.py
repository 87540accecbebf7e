"""How ``check`` asks AWS: quickly, without changing anything, and so that one failed question hides no other answer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import WIRE, code, fault, is_missing, is_refused
from worker.adapters.checks.findings import Finding, advice, fails, not_checked, ok
from worker.core.errors import DependencyUnavailable, WorkerError

PATIENCE = 5.0
"""Seconds that one question may take: a person waits for the answers."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question to one AWS service; ``optional``: the worker's role need not be permitted to ask it."""

    about: str
    """What its findings are about, in one word (see ``Finding``)."""
    what: str
    """What is asked about, in words, for the message if there is no answer."""
    service: str
    """The SDK's name of the service; ``ask`` is called with its client."""
    ask: Callable[[Any], Awaitable[Sequence[Finding]]]
    optional: bool = False


@dataclass(slots=True)
class Probe:
    """An attempt at one action that cannot change anything: it either reads, or is refused with one of ``refusals``."""

    action: str
    """IAM's name of it, such as ``sqs:DeleteMessage``."""
    call: Coroutine[Any, Any, Any]
    refusals: frozenset[str] = frozenset()
    """Error codes that the service only returns after it has found the action permitted."""
    without: str = ""
    """For an action that a run does not always need: what does not work without it."""


def refused(error: BaseException) -> bool:
    """Whether the error says that a permission is missing."""
    return is_refused(error)


def missing(error: BaseException) -> bool:
    """Whether the error says that the resource does not exist; the second code is an emulator's."""
    return is_missing(error) or code(error) == "ResourceNotFound"


async def asked(about: str, what: str, answer: Awaitable[Sequence[Finding]]) -> list[Finding]:
    """The findings of one question; if there is no answer, the failure is the only finding."""
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
    """As ``asked``, for questions that perhaps only an operator may ask: a refusal is noted, and is no failure."""
    try:
        async with asyncio.timeout(PATIENCE):
            return list(await answer)
    except (ClientError, *WIRE) as error:
        why = "since this role is not permitted to (config/iam/operator.json)" if refused(error) else code(error)
        if isinstance(error, TimeoutError):
            why = f"no answer in {PATIENCE:g} s"
        return [] if missing(error) else [not_checked(about, f"{what}: not looked at, {why}")]


async def permissions(about: str, probes: Sequence[Probe], untried: Mapping[str, str] | None = None) -> list[Finding]:
    """The findings about what this process may do; ``untried``: action → why it cannot be tried."""
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
    said = [ok(about, f"permitted: {', '.join(permitted)}")] if permitted else []
    said += [not_checked(about, f"not tried: {action}, because {why}") for action, why in (untried or {}).items()]
    return [*said, *findings]


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
