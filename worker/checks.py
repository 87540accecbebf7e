"""``check``: what would go wrong, said before anything is touched."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TextIO
from urllib.parse import urlsplit

from worker.adapters import open_stores
from worker.errors import WorkerError
from worker.ports import Backlog
from worker.sealing import AgeSealer
from worker.settings import Settings

UNSAFE_FILE_SYSTEMS = {"tmpfs", "ramfs", "overlay", "nfs", "nfs4", "cifs", "smb3", "9p", "fuse.sshfs", "efs", "ceph"}
"""Gone with the machine or the container, or unable to lock and sync as SQLite needs it."""


class Level(StrEnum):
    """How bad it is."""

    OK = "ok"
    ADVICE = "advice"
    FAILS = "fails"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    about: str
    level: Level
    said: str
    cure: str = ""

    @property
    def fails(self) -> bool:
        """Whether a run would fail over it."""
        return self.level is Level.FAILS


async def check(settings: Settings) -> list[Finding]:
    """Look at everything that a run needs, without a call and without a message taken."""
    findings = [_recipients(settings), _otp(settings)]
    for about, path in (("ledger", settings.ledger.path), ("channel", settings.channel.path)):
        findings.append(_folder(about, path))
        if about == "ledger" and not findings[-1].fails:
            findings.append(_file_system(path))
    findings.append(await _reach(settings))
    if settings.ledger.path.exists():
        findings += await _stores(settings)
    elif settings.ledger.must_exist:
        findings.append(
            Finding(
                "ledger", Level.FAILS, f"{settings.ledger.path} does not exist", "restore it, or correct ledger.path"
            )
        )
    return findings


def _recipients(settings: Settings) -> Finding:
    try:
        AgeSealer(settings.seal.recipients)
    except WorkerError as error:
        return Finding("seal", Level.FAILS, str(error), error.hint)
    number = len(settings.seal.recipients)
    if number < 2:
        return Finding("seal", Level.ADVICE, "one recipient", "a lost identity loses every secret: seal to two")
    return Finding("seal", Level.OK, f"{number} recipients")


def _otp(settings: Settings) -> Finding:
    if settings.otp.issuer == settings.cognito.user_pool_id:
        return Finding(
            "otp",
            Level.ADVICE,
            f"people will see {settings.otp.issuer!r} in their app",
            "name your service in otp.issuer",
        )
    return Finding("otp", Level.OK, f"people will see {settings.otp.issuer!r} in their app")


def _folder(about: str, path: Path) -> Finding:
    folder = path.parent
    if not folder.is_dir():
        return Finding(about, Level.FAILS, f"there is no folder {folder}", f"create it, or correct {about}.path")
    target = path if path.exists() else folder
    if not os.access(target, os.W_OK):
        return Finding(about, Level.FAILS, f"{target} cannot be written", "change its owner, or choose another place")
    return Finding(about, Level.OK, f"{path} can be written")


def _file_system(path: Path) -> Finding:
    kind = _mounted(path.parent.resolve())
    if kind in UNSAFE_FILE_SYSTEMS:
        return Finding(
            "ledger", Level.ADVICE, f"{path} is on {kind}", "keep it on a local disk that outlives the container"
        )
    return Finding("ledger", Level.OK, f"on {kind or 'a file system of unknown kind'}")


def _mounted(folder: Path) -> str:
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    best, kind = "", ""
    for line in mounts.splitlines():
        _, point, found, *_ = line.split(" ")
        if folder.is_relative_to(point) and len(point) >= len(best):
            best, kind = point, found
    return kind


async def _reach(settings: Settings) -> Finding:
    cognito = settings.cognito
    url = urlsplit(cognito.endpoint_url or f"https://cognito-idp.{cognito.region}.amazonaws.com")
    try:
        async with asyncio.timeout(5):
            _, writer = await asyncio.open_connection(url.hostname, url.port or (443 if url.scheme == "https" else 80))
        writer.close()
    except (OSError, TimeoutError) as error:
        return Finding(
            "cognito",
            Level.FAILS,
            f"cannot connect to {url.netloc}: {type(error).__name__}",
            "check network, proxy and cognito.endpoint_url",
        )
    return Finding("cognito", Level.OK, f"{url.netloc} can be reached")


async def _stores(settings: Settings) -> list[Finding]:
    try:
        async with open_stores(settings) as stores:
            backlog, sessions = await stores.queue.backlog(), await stores.queue.sessions()
    except WorkerError as error:
        return [Finding("ledger", Level.FAILS, str(error), error.hint)]
    return [_backlog(settings, backlog), _way(settings, sessions)]


def _backlog(settings: Settings, backlog: Backlog) -> Finding:
    rate = settings.rate.requests_per_second
    needed = backlog.waiting / rate
    if backlog.expired:
        return Finding(
            "queue",
            Level.ADVICE,
            f"{backlog.expired} of {backlog.waiting} credentials have died already",
            "they will be needs_session: export and sign in again",
        )
    return Finding("queue", Level.OK, f"{backlog.waiting} wait: {needed / 60:.0f} min at {rate:g}/s")


def _way(settings: Settings, sessions: int | None) -> Finding:
    rate, validity = settings.rate.requests_per_second, settings.cognito.session_validity
    if not sessions:
        return Finding("way", Level.OK, "access tokens: the user confirms, on a page of the application")
    limit = f"at {rate:g}/s the oldest {validity:g} s session that can be saved is number {rate * validity:,.0f}"
    if settings.cognito.session_handoff:
        return Finding(
            "way", Level.ADVICE if sessions > rate * validity else Level.OK, f"{sessions} sessions wait; {limit}"
        )
    return Finding(
        "way",
        Level.ADVICE,
        f"{sessions} sessions wait: a secret dies with its session unless somebody verifies in time; {limit}",
        "put access tokens on the queue, or state cognito.session_handoff = true",
    )


def show(findings: Sequence[Finding], out: TextIO, *, as_json: bool) -> None:
    """Print the findings, for people or as one JSON object."""
    if as_json:
        rows = [{"about": f.about, "level": f.level, "said": f.said, "cure": f.cure} for f in findings]
        out.write(json.dumps({"ok": not any(f.fails for f in findings), "findings": rows}) + "\n")
        return
    for finding in findings:
        out.write(f"{finding.level.upper():7} {finding.about}: {finding.said}\n")
        if finding.cure and finding.level is not Level.OK:
            out.write(f"        → {finding.cure}\n")
