"""What goes into the image, what it says of itself, and that no secret of the checkout is ever sent to a builder."""

from __future__ import annotations

import json
import re
import tomllib
from fnmatch import fnmatchcase
from pathlib import PurePosixPath

import pytest

from tests.support.manifests import CONFIG, DOCKERFILE, ROOT, SHELL, TASKS_CONTAINER

IGNORE = [line for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if not line.startswith("#")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PLAIN = re.sub(r"(^#.*\n)|(\\\n)", " ", DOCKERFILE, flags=re.MULTILINE)
"""The Dockerfile without its comments, each instruction on one line."""
LAST = PLAIN[PLAIN.rindex("FROM base") :]
"""The stage that is shipped."""


def is_sent(path: str) -> bool:
    """Whether a builder gets this file of the checkout: the last line that fits decides, and `*` stops at a slash."""
    sent = True
    for line in IGNORE:
        pattern = line.removeprefix("!").split("/")
        parts = PurePosixPath(path).parts
        if line == "*" or (len(parts) == len(pattern) and all(map(fnmatchcase, parts, pattern))):
            sent = line.startswith("!")
    return sent


KINDS = {".css", ".jinja", ".py", ".toml", ".txt", ".typ", ".typed"}
"""What the package consists of; anything else that lies there is somebody's own."""


def files_of_the_package() -> list[str]:
    found = (path for path in (ROOT / "worker").rglob("*") if path.suffix in KINDS or path.name == "py.typed")
    return sorted(str(path.relative_to(ROOT)) for path in found)


def test_every_file_of_the_package_is_sent_to_the_builder() -> None:
    missing = [path for path in files_of_the_package() if not is_sent(path)]
    folders = sorted(
        {f"!{PurePosixPath(path).parent}/*.py" if path.endswith(".py") else f"!{path}" for path in missing}
    )
    assert not missing, "write into .dockerignore:\n" + "\n".join(folders)


def test_every_line_of_the_allow_list_still_lets_something_in() -> None:
    assert IGNORE[0] == "*"
    assert all(line.startswith("!") for line in IGNORE[1:])
    assert [line for line in IGNORE[1:] if not list(ROOT.glob(line.removeprefix("!")))] == []


@pytest.mark.parametrize("folder", ["", "worker/", "worker/app/", "worker/handout/letter/", "config/"])
@pytest.mark.parametrize(
    "name",
    [
        *(".env", ".env.py.bak", "identity.key", "ticket.key", "id_ed25519", "server.pem", ".netrc", "credentials"),
        *("mfa-worker.db", "mfa-worker.db-wal", "enrolments.jsonl", "enrolments.jsonl.mark", "secrets.csv"),
        *("letters.pdf", ".git/config", ".aws/credentials", "mfa-worker.toml", "core", "x.pyc", "x.py.swp"),
    ],
)
def test_no_secret_that_lies_in_the_checkout_is_sent(folder: str, name: str) -> None:
    assert not is_sent(folder + name)


def test_what_the_dockerfile_copies_is_sent() -> None:
    copied = [line.split()[1:-1] for line in PLAIN.splitlines() if re.match(r" *COPY (?!--from)", line)]
    names = {name for each in copied for name in each}
    assert names == {"requirements.lock", "requirements-build.lock", "pyproject.toml", "README.md", "LICENSE", "worker"}
    assert all(is_sent(name) for name in names - {"worker"})


def test_the_image_says_what_it_is() -> None:
    labels = dict(re.findall(r'org\.opencontainers\.image\.([\w.]+)="([^"]*)"', LAST))
    assert labels == {
        "title": PROJECT["name"],
        "description": PROJECT["description"].partition(":")[0],
        "licenses": PROJECT["license"],
        "base.name": f"docker.io/library/{re.search(r'^ *FROM (python:[^ @]+)', PLAIN, re.MULTILINE)[1]}",  # type: ignore[index]
        **{name: f"${name.upper()}" for name in ("version", "revision", "created", "source")},
    }
    arguments = dict(re.findall(r"ARG ([A-Z]+)=(\S+)", LAST))
    assert arguments == {
        "VERSION": PROJECT["version"],
        "REVISION": "unknown",
        "CREATED": "unknown",
        "SOURCE": "unknown",
    }


def test_nothing_that_the_container_starts_needs_a_shell() -> None:
    for instruction in ("ENTRYPOINT", "CMD", "HEALTHCHECK .* CMD"):
        (form,) = re.findall(rf"^ *{instruction} (.*)$", LAST, re.MULTILINE)
        assert json.loads(form)
    assert "sh -c" not in "".join(path.read_text("utf-8") for path in CONFIG.rglob("*.yaml"))


def seconds(option: str) -> int:
    return int(re.findall(rf"--{option}=(\d+)", LAST)[0])


def test_every_platform_with_a_health_check_of_its_own_asks_what_the_image_asks() -> None:
    assert TASKS_CONTAINER["healthCheck"] == {
        "command": ["CMD", "mfa-worker", "health"],
        "interval": seconds("interval"),
        "timeout": seconds("timeout"),
        "retries": seconds("retries"),
        "startPeriod": seconds("start-period"),
    }
    assert "--no-healthcheck" in SHELL


def test_no_time_and_no_order_of_the_build_gets_into_the_installed_tree() -> None:
    assert len(re.findall(r"ARG SOURCE_DATE_EPOCH=\d+", PLAIN)) >= 1
    compiling = re.findall(r"compileall[^&]*", PLAIN)
    assert len(compiling) == 2
    assert not [each for each in compiling if "unchecked-hash" not in each or "-j" in each.split()]
    assert PLAIN.count("PYTHONHASHSEED=0") == 2
    assert "useradd" not in PLAIN


def test_the_table_of_what_is_installed_is_the_lock_and_stays_within_its_limit() -> None:
    page = (ROOT / "docs/image.md").read_text("utf-8")
    rows = re.findall(r"^\| ([a-z0-9-]+) \| (\S+) \| (\d+\.\d) \| .+ \|$", page, re.MULTILINE)
    pins = dict(re.findall(r"^([a-z0-9-]+)==([^\s;]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    renew = "renew the table: config/docker/installed_tree.py --table, in an image of this commit"
    assert {name: version for name, version, _ in rows} == {**pins, PROJECT["name"]: PROJECT["version"]}, renew
    (total,) = re.findall(r"All of it is (\d+\.\d) MB, of 120 at most", page)
    assert sum(float(size) for *_, size in rows) <= float(total) <= 120
