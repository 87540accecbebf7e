"""From a list of usernames to requests with tickets: ``keygen --ticket`` and ``push --usernames``."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.processes import Ended
from tests.support.rollout import POOL, Rollout
from worker.requests.ticket import is_genuine, make_ticket, read_key, read_not_after

CLIENT = "exampleclient"


@pytest.fixture
def key_file(rollout: Rollout) -> Path:
    """The key's file, beside settings that take tickets."""
    rollout.configure(sign_in={"flow": "custom_auth", "client_id": CLIENT})
    return rollout.folder / "ticket.key"


def text(file: Path) -> str:
    return file.read_text().strip()


def mode(file: Path) -> int:
    return file.stat().st_mode & 0o777


async def push(rollout: Rollout, names: str, *arguments: str) -> Ended:
    file = rollout.folder / "users.txt"
    file.write_bytes(names.encode())
    return await rollout.command("push", "--usernames", str(file), "--ticket-key", "ticket.key", *arguments)


def waiting(rollout: Rollout) -> list[tuple[str, str, float]]:
    """Username, ticket and deadline of each request that waits."""
    with closing(sqlite3.connect(rollout.ledger)) as connection:
        rows = connection.execute("SELECT body, deadline FROM messages ORDER BY id").fetchall()
    return [(json.loads(body)["username"], json.loads(body)["ticket"], deadline) for body, deadline in rows]


async def test_each_user_gets_a_ticket_that_the_key_made(rollout: Rollout, key_file: Path) -> None:
    made = await rollout.command("keygen", "--ticket", "-o", "ticket.key", config=False)
    assert (made.code, made.out, mode(key_file)) == (0, "", 0o600)
    key = read_key(key_file)
    before = time.time()

    ended = await push(rollout, "ada\r\n\nzoë\nada\nx\ty\n", "--valid-for", "90m")

    assert (ended.code, ended.out.splitlines()[0]) == (1, "accepted 2, duplicate 1, malformed 1")
    (first, second) = found = waiting(rollout)
    assert [name for name, _, _ in found] == ["ada", "zoë"]
    for name, ticket, deadline in found:
        assert is_genuine(ticket, key, user_pool_id=POOL, client_id=CLIENT, username=name)
        assert read_not_after(ticket) == deadline
    assert first[2] == second[2]
    assert -3 <= first[2] - before - 5400 <= 60
    expires = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(first[2]))
    assert ended.out.splitlines()[1] == f"the tickets expire at {expires} UTC, in 90 min"
    assert "line 5: holds a tab" in ended.err
    for said in (made, ended):
        assert text(key_file) not in said.out + said.err
        assert first[1] not in said.out + said.err


async def test_a_key_is_never_written_over(rollout: Rollout, key_file: Path) -> None:
    await rollout.command("keygen", "--ticket", "-o", "ticket.key", config=False)
    mine = text(key_file)
    ended = await rollout.command("keygen", "--ticket", "-o", "ticket.key", config=False)
    assert (ended.code, text(key_file)) == (2, mine)
    assert "a key is never overwritten" in ended.err


async def test_it_says_when_what_waits_outlives_the_tickets(rollout: Rollout, key_file: Path) -> None:
    await rollout.command("keygen", "--ticket", "-o", "ticket.key", config=False)
    rollout.configure(rate={"requests_per_second": 1}, activation={"mode": "verify"})
    ended = await push(rollout, "".join(f"user-{number}\n" for number in range(300)), "--valid-for", "5m")
    assert ended.code == 0
    (warning,) = ended.logged("tickets_too_short")
    assert "300 users wait, and at 1 calls/s, 2 calls a user: 0.5 users/s they need 10 min" in warning["cause"]
    assert "expire in 5 min: about 15" in warning["cause"]
    assert "--valid-for" in warning["cure"]
    assert not (await push(rollout, "cleo\n", "--valid-for", "3h")).logged("tickets_too_short")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--usernames", "users.txt"), "--ticket-key KEYFILE"),
        (("--usernames", "users.txt", "x.jsonl", "--ticket-key", "ticket.key"), "name one of them"),
        (("x.jsonl", "--valid-for", "3h"), "name the users with --usernames"),
        (("--usernames", "users.txt", "--ticket-key", "ticket.key", "--valid-for", "0"), "duration of more than 0"),
        (("--usernames", "users.txt", "--ticket-key", "ticket.key", "--valid-for", "9999d"), "at most 3650d"),
        (("--usernames", "-", "--ticket-key", "-"), "cannot be two things"),
        (("--usernames", "none.txt", "--ticket-key", "ticket.key"), "cannot read none.txt"),
        (("--usernames", "users.txt", "--ticket-key", "none.key"), "cannot read the ticket key none.key"),
        (("--usernames", "users.txt", "--ticket-key", "identity.txt"), "it is an age identity"),
        (("--usernames", "ticket.key", "--ticket-key", "ticket.key"), "the key would be pushed as a username"),
    ],
)
async def test_what_contradicts_itself_is_refused_before_anything_is_touched(
    rollout: Rollout, key_file: Path, arguments: tuple[str, ...], said: str
) -> None:
    await rollout.command("keygen", "--ticket", "-o", "ticket.key", config=False)
    (rollout.folder / "users.txt").write_text("ada\n")
    ended = await rollout.command("push", *arguments)
    assert ended.code == 2
    assert said in ended.err
    assert not rollout.ledger.exists()
    assert text(key_file) not in ended.err


async def test_tickets_need_their_flow_and_app_client(rollout: Rollout, key_file: Path) -> None:
    await rollout.command("keygen", "--ticket", "-o", "ticket.key", config=False)
    assert text(key_file)
    rollout.configure(sign_in={"flow": None, "client_id": None})
    ended = await push(rollout, "ada\n")
    assert ended.code == 2
    assert "sign_in.flow = custom_auth and sign_in.client_id" in ended.err


async def test_tickets_that_were_brought_are_judged_by_the_key(rollout: Rollout, key_file: Path) -> None:
    await rollout.command("keygen", "--ticket", "-o", "ticket.key", config=False)
    where = {"user_pool_id": POOL, "client_id": CLIENT, "not_after": time.time() + 3600}
    key = read_key(key_file)
    good = make_ticket(key, username="ada", **where)  # type: ignore[arg-type]
    forged = make_ticket(bytes(32), username="cleo", **where)  # type: ignore[arg-type]
    elsewhere = make_ticket(key, username="dora", **{**where, "client_id": "another"})  # type: ignore[arg-type]
    lines = [
        {"username": "ada", "ticket": good},
        {"username": "bob", "ticket": good},
        {"username": "cleo", "ticket": forged},
        {"username": "dora", "ticket": elsewhere},
        {"username": "eve", "session": "s" * 40},
    ]
    ended = await rollout.command("push", rollout.file(lines), "--ticket-key", "ticket.key")
    assert (ended.code, ended.out) == (1, "accepted 2, duplicate 0, malformed 3\n")
    assert ended.err.count("its ticket is not this user's in this app client, or was made with another key") == 3
    assert good not in ended.err
    assert not ended.logged("tickets_too_short"), "nobody asked how long they live"


async def test_passwords_are_pushed_under_a_random_id_and_keep_fresh_holds_none_back(rollout: Rollout) -> None:
    rollout.configure(sign_in={"flow": "user_password", "client_id": CLIENT}, rate={"requests_per_second": 0.1})
    file = rollout.file({"username": f"user-{number}", "password": "hunter2"} for number in range(600))
    pushed = [await rollout.command("push", "--keep-fresh", file), await rollout.command("push", file)]
    assert [ended.out for ended in pushed] == ["accepted 600, duplicate 0, malformed 0\n"] * 2
    assert len(pushed[0].logged("feed_does_not_wait")) == 1
    with closing(sqlite3.connect(rollout.ledger)) as connection:
        ids = {id_ for (id_,) in connection.execute("SELECT request_id FROM messages")}
    assert len(ids) == 1200


async def test_a_dry_run_counts_kinds_and_tickets_that_expire_before_their_turn(
    rollout: Rollout, key_file: Path
) -> None:
    await rollout.command("keygen", "--ticket", "-o", "ticket.key", config=False)
    rollout.configure(rate={"requests_per_second": 1}, activation={"mode": "verify"})
    where = {"user_pool_id": POOL, "client_id": CLIENT, "not_after": time.time() + 120}
    users = [f"user-{number}" for number in range(200)]
    lines = [{"username": user, "ticket": make_ticket(read_key(key_file), username=user, **where)} for user in users]  # type: ignore[arg-type]
    file = rollout.file([*lines, {"username": "ada", "password": "hunter2"}, {"username": "b", "session": "s" * 40}])
    ended = await rollout.command("run", "--dry-run", "--input", file)
    assert "201 well-formed: 1 sessions and 200 tickets" in ended.out
    assert "of 200 tickets expire before their turn at 1 calls/s, 2 calls a user: 0.5 users/s" in ended.out
    assert "1 malformed: password fits only sign_in.flow user_password" in ended.out
    assert "hunter2" not in ended.out + ended.err
