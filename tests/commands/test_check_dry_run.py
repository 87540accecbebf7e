"""``run --dry-run``: every request that waits is read as a run would read it, and none is taken."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from pathlib import Path

import pytest

from tests.support.checking import about, aws_settings, aws_target, initialized
from tests.support.emulators import Emulator, fresh
from worker.adapters.checks.findings import Level
from worker.app.stores import open_stores
from worker.settings import Settings, load
from worker.setup import checks

SENT = "a-secret-that-was-sent"


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A table of mounts on which everything is a local disk."""
    (tmp_path / "mounts").write_text("/dev/vda / ext4 rw 0 0\n", "utf-8")
    return tmp_path / "mounts"


def lines() -> list[str]:
    session = {"session": "s" * 40}
    return [
        json.dumps({"username": "ana", **session}),
        json.dumps({"username": "ben", **session, "expires_at": "2020-01-01T00:00:00Z"}),
        json.dumps({"username": "cia", "access_token": "opaque", "replace": True}),
        "",
        "no JSON",
        json.dumps({"username": "dan", "seesion": SENT}),
        json.dumps({"username": "eve", "session": SENT * 900}),
    ]


def embedded(folder: Path, *more: str) -> Settings:
    return load(
        None,
        [
            "cognito.user_pool_id=eu-central-1_A",
            "cognito.endpoint_url=http://127.0.0.1:1",
            f"queue.path={folder / 'q.db'}",
            f"channel.path={folder / 'out.jsonl'}",
            *more,
        ],
        {},
    )


async def test_a_dry_run_reads_a_file_and_tells_what_a_run_would_meet(tmp_path: Path, local: Path) -> None:
    file = tmp_path / "requests.jsonl"
    file.write_text("\n".join(lines()), "utf-8")
    out = io.StringIO()

    findings = await checks.dry_run(embedded(tmp_path), str(file), mounts=local)
    checks.show(findings, out, as_json=True)

    assert "3 well-formed: 1 access tokens and 2 sessions" in about(findings, "requests", Level.OK)
    told = about(findings, "requests", Level.ADVICE)
    assert "1 malformed: is not JSON" in told
    assert 'unknown key "seesion"; did you mean session?' in told
    assert "1 access tokens do not fit their requests: it is no token of Cognito's" in told
    assert "1 of 3 credentials have died already" in about(findings, "queue", Level.ADVICE)
    assert "2 sessions wait" in about(findings, "way", Level.ADVICE)
    assert SENT not in out.getvalue()
    assert not (tmp_path / "q.db").exists()


async def test_a_dry_run_reads_the_embedded_queue_and_takes_nothing(tmp_path: Path, local: Path) -> None:
    settings = embedded(tmp_path)
    async with open_stores(settings) as stores:
        requests = [line.encode() for line in lines() if "opaque" in line or '"s' in line][:3]
        now = time.time()
        many = [
            json.dumps({"username": f"user-{number}", "session": "s" * 40, "id": "1"}).encode()
            for number in range(1_200)
        ]
        for body in (*requests, *many):
            await stores.queue.push([(stores.parser.parse(body, now), stores.parser.body(body, now))])
        waiting = await stores.queue.backlog()

    findings = await checks.dry_run(settings, mounts=local)

    assert "1,203 well-formed: 1 access tokens and 1,202 sessions" in about(findings, "requests", Level.OK)
    async with open_stores(settings) as stores:
        assert await stores.queue.backlog() == waiting
        assert len(await stores.queue.lease(1)) == 1


async def test_a_dry_run_of_standard_input_says_that_it_is_used_up(
    tmp_path: Path, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Input:
        buffer = io.BytesIO("\n".join(lines()).encode())

    monkeypatch.setattr(sys, "stdin", Input)

    findings = await checks.dry_run(embedded(tmp_path), "-", mounts=local)

    assert "3 well-formed" in about(findings, "requests", Level.OK)
    assert "used up" in about(findings, "requests", Level.OK)


async def test_a_dry_run_takes_nothing_out_of_a_pipe_and_names_a_missing_file(tmp_path: Path, local: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    pipe = await checks.dry_run(embedded(tmp_path), str(tmp_path / "pipe"), mounts=local)
    missing = await checks.dry_run(embedded(tmp_path), str(tmp_path / "none"), mounts=local)

    assert "no regular file" in about(pipe, "requests", Level.FAILS)
    assert "No such file" in about(missing, "requests", Level.FAILS)


async def test_a_dry_run_leaves_sqs_unread_and_says_why(ministack: Emulator, aws_credentials: None) -> None:
    settings = aws_settings(ministack, "ledger.kind=sqlite", "channel.kind=file", f"ledger.path={fresh('no')}.db")
    await initialized(settings, ministack)
    async with ministack.aws() as aws:
        await (await aws.sqs()).send_message(QueueUrl=str(settings.queue.url), MessageBody=lines()[0])

    findings = await checks.dry_run(settings, target=aws_target(ministack))

    assert "does not read what waits in SQS" in about(findings, "requests", Level.NOT_CHECKED)
    assert "1 wait" in about(findings, "queue", Level.OK)
    async with ministack.aws() as aws:
        answer = await (await aws.sqs()).receive_message(
            QueueUrl=str(settings.queue.url), MessageSystemAttributeNames=["ApproximateReceiveCount"]
        )
        assert [each["Attributes"]["ApproximateReceiveCount"] for each in answer["Messages"]] == ["1"]
