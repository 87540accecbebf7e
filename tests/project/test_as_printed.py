"""What README, ``docs/`` and ``config/`` print as code works as printed: every page is read by somebody who types it.

Shell is typed into one terminal for each page, in a folder as a reader of that page has it (``prepared``), against a
fake Cognito; Python is run as a file there; TOML is loaded as settings, JSON is parsed. A block that no test can run
is marked, on the line before it, with a key of ``NOT_RUN``, which has the reason:

    <!-- not run: aws -->

Its commands are checked nevertheless: those of ``mfa-worker`` against the command line, those of ``aws`` against the
models of its services. ``MARKED`` counts the marks, so that none is set and forgotten.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import tomllib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import botocore.loaders
import pytest
import yaml  # type: ignore[import-untyped]
from botocore import xform_name

from tests.project.test_documents import CALL, parse
from tests.support.reader import Reader, typed_commands
from worker.cli import cli
from worker.rehearsal.fake_cognito.client import FakeCognito, serve_fake_cognito
from worker.rehearsal.fake_cognito.config import FakeCognitoConfig
from worker.sealing import age
from worker.settings import Settings
from worker.setup.first_settings import Answers, settings_text

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "config").rglob("*.md"))]

NOT_RUN = {
    "ci": "the whole of CI runs it, as it stands (.ci/run)",
    "aws": "it needs an AWS account; the same commands run against emulators in tests/story and tests/commands",
    "docker": "it builds or runs an image, or needs a cluster; tests/project/test_manifests.py reads the manifests",
    "measured": "it takes minutes: what it measured stands beside it",
}
"""Why a block is not run: the keys of the marks."""

MARKED = {
    ("README.md", "ci"): 2,
    ("config/sign-in/README.md", "aws"): 3,
    ("docs/aws.md", "aws"): 10,
    ("docs/aws.md", "docker"): 3,
    ("docs/image.md", "docker"): 2,
    ("docs/development.md", "measured"): 1,
    ("docs/measured.md", "measured"): 10,
    ("docs/operations.md", "aws"): 2,
    ("docs/operations.md", "docker"): 1,
}
"""How many blocks of each page are marked so."""

BLOCK = re.compile(
    r"(?:^<!-- (?P<mark>[^>]*) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
HELP = "or mark it on the line before with <!-- not run: KEY -->, KEY being one of tests/project/test_as_printed.py"
POOL, CLIENT = "eu-central-1_AbCdEfGhI", "1example23456789"
"""The pool and the app client of the examples."""


@dataclass(frozen=True)
class Block:
    page: str
    line: int
    language: str
    text: str
    mark: str
    """Why it is not run; empty: it is."""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


@cache
def blocks(page: Path) -> list[Block]:
    """The blocks of code of a page; those without a language are drawings or output."""
    text, name = page.read_text("utf-8"), str(page.relative_to(ROOT))
    found = []
    for each in BLOCK.finditer(text):
        mark = (each["mark"] or "").partition(": ")
        key = {"command": "ci", "not run": mark[2]}.get(mark[0], "")
        line = text.count("\n", 0, each.start("text"))
        found.append(Block(name, line, each["language"], each["text"], key))
    return found


def every(language: str, *, run: bool | None = None) -> list[Any]:
    """The blocks in that language as a test's parameters; ``run``: only those that are run, or are not."""
    found = [block for page in PAGES for block in blocks(page) if block.language == language]
    return [pytest.param(block, id=str(block)) for block in found if run is None or run is not bool(block.mark)]


def test_every_mark_has_its_reason_and_is_counted() -> None:
    marks = Counter((block.page, block.mark) for page in PAGES for block in blocks(page) if block.mark)
    assert {mark for _, mark in marks} <= NOT_RUN.keys()
    assert marks == MARKED, "a block was marked, or is run now: count it in MARKED"


def test_every_block_has_a_language_that_is_checked() -> None:
    languages = {"sh", "python", "toml", "json", "yaml", ""}
    for block in (block for page in PAGES for block in blocks(page)):
        assert block.language in languages, f"{block}: nobody checks {block.language}"
        assert block.language or "mfa-worker " not in block.text, f"{block} is shell: call it sh"


# --- what can be checked without running it ---------------------------------------------------------------------------


@pytest.mark.parametrize("block", every("sh"))
def test_every_command_of_the_worker_has_the_options_that_are_printed(block: Block) -> None:
    for call in CALL.findall(block.text.replace("\\\n", " ")):
        parse(cli, shlex.split(call))


AWS = re.compile(r"\baws ([a-z0-9-]+) ([a-z0-9-]+)((?: [^|;&\n]*)?)")
OF_THE_CLI = {"cloudformation deploy", "ecr get-login-password", "configure get"}
"""Commands of the ``aws`` tool that are no operation of a service."""
EVERYWHERE = {"--query", "--output", "--region", "--profile", "--cli-input-json", "--no-cli-pager", "--endpoint-url"}


@pytest.mark.parametrize("block", every("sh"))
def test_every_command_of_aws_is_an_operation_with_its_options(block: Block) -> None:
    for service, operation, rest in AWS.findall(one_command_a_line(block.text)):
        if f"{service} {operation}" in OF_THE_CLI:
            continue
        members, required = operations(service)[operation]
        given = set(re.findall(r"(?<= )--[a-z][a-z-]*", rest))
        assert given - EVERYWHERE <= members, f"{block}: aws {service} {operation}"
        assert "--cli-input-json" in given or required <= given, f"{block}: aws {service} {operation}"
        for named in re.findall(r"file://(\S+\.json)", rest):
            assert (ROOT / named).exists(), named


def one_command_a_line(text: str) -> str:
    """The text with each command that stands within another, as ``$(…)``, in a line of its own."""
    text, inner = text.replace("\\\n", " "), re.compile(r"\$\(([^()]*)\)")
    while found := inner.search(text):
        text = f"{text[: found.start()]}…{text[found.end() :]}\n{found[1]}"
    return text


@cache
def operations(service: str) -> dict[str, tuple[set[str], set[str]]]:
    """The operations of a service, by the names of the ``aws`` tool, with all options and the required ones."""
    model = botocore.loaders.Loader().load_service_model(service, "service-2")
    found = {}
    for name, operation in model["operations"].items():
        shape = model["shapes"].get(operation.get("input", {}).get("shape"), {})
        required = {option(each) for each in shape.get("required", ())}
        found[xform_name(name, "-")] = {option(each) for each in shape.get("members", {})}, required
    return found


def option(member: str) -> str:
    return f"--{xform_name(member, '-')}"


@pytest.mark.parametrize("block", every("json"))
def test_json_is_json(block: Block) -> None:
    for text in block.text.splitlines() if block.text.startswith('{"') else [block.text]:
        json.loads(text)


def test_yaml_is_yaml() -> None:
    for block in (block for page in PAGES for block in blocks(page) if block.language == "yaml"):
        assert list(yaml.safe_load_all(block.text)), str(block)


@pytest.mark.parametrize("block", every("toml"))
def test_toml_is_settings(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("MFA_WORKER_")]:
        monkeypatch.delenv(name)
    sections = settings_as_printed(with_keys(block.text, [age.keygen("today")[1] for _ in range(2)]))
    assert Settings.model_validate(sections)


def with_keys(text: str, recipients: list[str]) -> str:
    """A text with public keys in place of ``age1…``."""
    for recipient in recipients:
        text = text.replace("age1…", recipient, 1)
    return text


def settings_as_printed(text: str) -> dict[str, Any]:
    """The settings of a block, and of those that ``init`` writes whatever it lacks."""
    whole = tomllib.loads(settings_text(Answers(POOL, "Example"), [age.keygen("today")[1]], has_key=False))
    for section, keys in tomllib.loads(text).items():
        whole[section] = {**whole.get(section, {}), **keys}
    return whole


# --- readers ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def typed() -> Iterator[str]:
    with typed_commands() as address:
        yield address


@pytest.fixture
async def fake_cognito() -> AsyncIterator[FakeCognito]:
    config = FakeCognitoConfig(user_pool_id=POOL, client_id=CLIENT, quota=None, sign_in_quota=None, latency=0.0)
    async with serve_fake_cognito(config) as served:
        yield served


def env_of(fake_cognito: FakeCognito) -> dict[str, str]:
    """The one thing that is otherwise than printed: where Cognito is."""
    return {"MFA_WORKER_COGNITO__ENDPOINT_URL": fake_cognito.url}


async def sign_in(fake_cognito: FakeCognito, *usernames: str, **how: Any) -> str:
    """Requests with access tokens, as lines."""
    signed_in = await fake_cognito.sign_in(usernames, credential="token", **how)
    return "".join(f"{json.dumps(each.request())}\n" for each in signed_in)


async def test_the_readme_from_a_clone_to_letters(tmp_path: Path, typed: str, fake_cognito: FakeCognito) -> None:
    """With the real program: what the README says is what somebody new does."""
    reader = Reader(tmp_path, typed, {}, real=True)
    (tmp_path / "requests.jsonl").write_text(await sign_in(fake_cognito, "0a1b…", "ben"), "utf-8")
    rehearsals, proofs = 0, 0
    for block in blocks(ROOT / "README.md"):
        if block.language == "sh" and not block.mark:
            if "mfa-worker init" in block.text:
                await reader.types(f"export {' '.join('='.join(each) for each in env_of(fake_cognito).items())}")
            out, _ = await reader.types(block.text)
            rehearsals += block.text.count("mfa-worker rehearse ")
            proofs += out.count("every promise held")
    assert rehearsals == proofs > 2
    out, _ = await reader.types("mfa-worker open -i identity.key enrolments.jsonl")
    secrets = list(map(json.loads, out.splitlines()))
    truth = await fake_cognito.truth()
    assert {each["username"]: each["secret_code"] for each in secrets} == {
        name: user.secrets[-1].secret_code for name, user in truth.items()
    }
    for made in ("rehearsal/letters.pdf", "letters.pdf", "rollout.html"):
        assert (tmp_path / made).stat().st_size > 10_000


async def prepared(folder: Path, typed: str, fake_cognito: FakeCognito) -> Reader:
    """A reader who has done what the README says: settings, keys, two delivered users, and lists of users.

    The files: ``mfa-worker.toml``, ``identity.key``, ``enrolments.jsonl``, ``requests.jsonl``, ``users.txt`` and others
    that the pages name.
    """
    reader = Reader(folder, typed, {**env_of(fake_cognito), "MFA_WORKER_CONFIG": "mfa-worker.toml"})
    identity, recipient = age.keygen("today")
    age.write_identity(folder / "identity.key", identity)
    sections = settings_as_printed("")
    sections["seal"]["recipients"] = [recipient]
    sections["sign_in"] = {"flow": "custom_auth", "client_id": CLIENT}
    sections["run"] = {"poll": 0.05}
    (folder / "mfa-worker.toml").write_text(
        "".join(
            f"[{name}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())
            for name, keys in sections.items()
        ),
        "utf-8",
    )
    (folder / "requests.jsonl").write_text(await sign_in(fake_cognito, "ana", "ben"), "utf-8")
    (folder / "users.txt").write_text("cleo\ndora\n")
    (folder / "everybody.txt").write_text("ana\nben\nnobody\n")
    (folder / "pilot.txt").write_text("ana\n")
    await reader.types('export PATH="$PWD/.venv/bin:$PATH"; mfa-worker push requests.jsonl; mfa-worker run')
    return reader


Hook = Callable[[Reader, FakeCognito], Awaitable[None]]


async def somebody_signs_in_everybody(reader: Reader, fake_cognito: FakeCognito) -> None:
    """The page's ./sign-in-everybody, and a module of the reader's that signs users in."""
    key = (reader.folder / "ticket.key").read_text()
    await fake_cognito.configure(ticket_key=key.strip())
    (reader.folder / "minted.jsonl").write_text(await sign_in(fake_cognito, "eve", "fay"), "utf-8")
    script = reader.folder / "sign-in-everybody"
    script.write_text("#!/bin/sh\ncat minted.jsonl\n")
    script.chmod(0o755)
    tokens = {name: json.loads(await sign_in(fake_cognito, name))["access_token"] for name in ("gus", "hal")}
    (reader.folder / "my_sign_in.py").write_text(
        f"tokens = {tokens}\nusernames = list(tokens)\nasync def sign_in(username):\n    return tokens[username]\n"
    )


async def somebody_comes_too_late(reader: Reader, fake_cognito: FakeCognito) -> None:
    (reader.folder / "late.jsonl").write_text(await sign_in(fake_cognito, "ida", validity=0.0), "utf-8")
    await reader.types("mfa-worker push late.jsonl; mfa-worker run || [ $? = 1 ]")


async def somebody_fails(reader: Reader, fake_cognito: FakeCognito) -> None:
    another = {**json.loads(await sign_in(fake_cognito, "jon")), "username": "kim"}
    (reader.folder / "wrong.jsonl").write_text(f"{json.dumps(another)}\n", "utf-8")
    await reader.types("mfa-worker push wrong.jsonl; mfa-worker run || [ $? = 1 ]")


async def they_sign_in_again(reader: Reader, fake_cognito: FakeCognito) -> None:
    names = [json.loads(line)["username"] for line in (reader.folder / "again.jsonl").read_text().splitlines()]
    assert names == ["ida"]
    (reader.folder / "again.jsonl").write_text(await sign_in(fake_cognito, *names), "utf-8")


BEFORE: dict[str, Hook] = {
    "./sign-in-everybody": somebody_signs_in_everybody,
    "mfa-worker export --state needs_session > again.jsonl": somebody_comes_too_late,
    "mfa-worker export --state failed > gone.jsonl": somebody_fails,
    "# sign each of these users in": they_sign_in_again,
}
"""What is done by hand, or has happened, before a line that begins so is typed."""


TYPED = [
    page for page in PAGES[1:] if any(each.language in ("sh", "python") and not each.mark for each in blocks(page))
]


@pytest.mark.parametrize("page", TYPED, ids=lambda page: str(page.relative_to(ROOT)))
async def test_what_a_page_says_works_as_it_is_typed(
    page: Path, tmp_path: Path, typed: str, fake_cognito: FakeCognito
) -> None:
    reader = await prepared(tmp_path, typed, fake_cognito)
    for block in blocks(page):
        if block.mark or block.language not in ("sh", "python"):
            continue
        try:
            await typing(block, reader, fake_cognito)
        except AssertionError as error:
            raise AssertionError(f"{block} does not work as printed: mend it, {HELP}\n{error}") from None


async def typing(block: Block, reader: Reader, fake_cognito: FakeCognito) -> None:
    if block.language == "python":
        (reader.folder / "snippet.py").write_text(block.text, "utf-8")
        await reader.types(f"PYTHONPATH={ROOT / page_folder(block)}:. {sys.executable} snippet.py")
        return
    lines: list[str] = []
    for line in block.text.splitlines():
        hook = next((hook for begins, hook in BEFORE.items() if line.startswith(begins)), None)
        if hook is not None:
            await reader.types("\n".join(lines))
            lines.clear()
            await hook(reader, fake_cognito)
        lines.append(line)
    await reader.types("\n".join(lines))


def page_folder(block: Block) -> Path:
    """Where a page lies, whose neighbours its Python may import."""
    return Path(block.page).parent
