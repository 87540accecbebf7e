"""Licences, the bill of materials and the search for secrets: the programs in .ci find what they are there to find.

CI runs each of them on the project itself; here they get what an ordinary day brings: a package under another licence,
a lock for some machines only, a key that somebody committed.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import json
import random
import re
import shutil
import string
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = Path(__file__).parents[2]
LOCKS = sorted(each.name for each in ROOT.glob("requirements*.lock"))
PAGE = ROOT / "docs/licences.md"


def installed(*packages: str) -> bool:
    try:
        return all(version(each) for each in packages)
    except PackageNotFoundError:
        return False


pytestmark = pytest.mark.skipif(
    not installed("cyclonedx-bom", "kingfisher-bin", "hatchling"),
    reason="pip install --require-hashes -r requirements-checks.lock -r requirements-build.lock was not done",
)


def program(name: str) -> ModuleType:
    """A program in .ci as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / ".ci" / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def dependencies() -> ModuleType:
    return program("dependencies")


@pytest.fixture(scope="module")
def secret_scan() -> ModuleType:
    return program("secret_scan")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """What the programs read of a checkout, to change it."""
    for name in ["pyproject.toml", *LOCKS]:
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


def say(dependencies: ModuleType, monkeypatch: pytest.MonkeyPatch, package: str, words: str) -> list[str]:
    """What is wrong once a package says this of its licence."""
    before = dependencies.said
    monkeypatch.setattr(dependencies, "said", lambda name: words if name == package else before(name))
    wrong: list[str] = dependencies.page()[1]
    return wrong


def test_the_page_of_licences_is_as_the_packages_say(dependencies: ModuleType) -> None:
    text, wrong = dependencies.page()
    assert wrong == []
    assert text == PAGE.read_text("utf-8"), (
        "run .ci/dependencies.py licences > docs/licences.md and look at what changed"
    )


def test_the_page_has_every_package_of_every_lock_also_those_for_other_machines(dependencies: ModuleType) -> None:
    rows = {line.split(" | ")[0].removeprefix("| ") for line in PAGE.read_text("utf-8").splitlines()}
    locked = {pin.name for lock in LOCKS for pin in dependencies.pins(ROOT / lock)}
    assert locked - rows == set()
    assert {"colorama", "pywin32", "atheris"} <= rows


@pytest.mark.parametrize(
    ("package", "words", "allowed"),
    [
        ("aiohttp", "MIT", True),
        ("aiohttp", "LGPL-3.0-or-later", False),
        ("aiohttp", "MIT OR LGPL-3.0-or-later", True),
        ("aiohttp", "MIT AND LGPL-3.0-or-later", False),
        ("yarl", "MPL-2.0", False),
        ("requests", "LGPL-3.0-or-later", True),
        ("segno", "LGPL-2.1-only", True),
        ("requests", "GPL-3.0-only", False),
        ("hypothesis", "GPL-3.0-only", True),
    ],
)
def test_lgpl_is_for_extras_only_and_gpl_for_tools_only(
    dependencies: ModuleType, monkeypatch: pytest.MonkeyPatch, package: str, words: str, allowed: bool
) -> None:
    wrong = say(dependencies, monkeypatch, package, words)
    assert (wrong == []) is allowed
    assert all(each.startswith(f"{package} is under {words}, which is not allowed in ") for each in wrong)


@pytest.mark.parametrize("words", ["", "BSD", "UNKNOWN", "AGPL-3.0-only", "MIT AND SSPL-1.0", "Proprietary"])
@pytest.mark.parametrize("package", ["aiohttp", "moto", "jinja2"])
def test_a_licence_that_nobody_knows_is_named_wherever_it_is(
    dependencies: ModuleType, monkeypatch: pytest.MonkeyPatch, package: str, words: str
) -> None:
    [wrong] = say(dependencies, monkeypatch, package, words)
    assert wrong.startswith(f"{package} says {words!r} of its licence: read its licence file")


def test_a_licence_that_changes_shows_on_the_page(dependencies: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert say(dependencies, monkeypatch, "pyotp", "Apache-2.0") == []
    assert dependencies.page()[0] != PAGE.read_text("utf-8")


def test_a_package_of_an_extra_that_moves_to_the_worker_is_judged_as_the_workers(
    dependencies: ModuleType, copy: Path
) -> None:
    project = copy / "pyproject.toml"
    project.write_text(
        project.read_text("utf-8").replace('  "tenacity', '  "certifi>=2026,<2027",\n  "tenacity'), "utf-8"
    )
    assert dependencies.page(copy)[1] == ["certifi is under MPL-2.0, which is not allowed in 'The worker'"]


def bill(dependencies: ModuleType) -> Any:
    return json.loads(dependencies.sbom())


def test_the_bill_of_materials_has_each_package_of_the_image_with_version_hashes_and_licence(
    dependencies: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    made = json.loads(dependencies.validated(dependencies.sbom()))
    pins = {pin.name: pin for pin in dependencies.pins(ROOT / "requirements.lock")}
    assert (made["bomFormat"], made["specVersion"]) == ("CycloneDX", "1.6")
    assert made["metadata"]["component"]["name"] == "mfa-worker"
    assert {each["name"]: each["version"] for each in made["components"]} == {
        name: pin.version for name, pin in pins.items()
    }
    for each in made["components"]:
        assert {one["content"] for one in each["externalReferences"][0]["hashes"]} == set(pins[each["name"]].hashes)
        assert each["licenses"]
        assert each["purl"] == f"pkg:pypi/{each['name']}@{each['version']}"
    edges = {each["ref"]: each.get("dependsOn", []) for each in made["dependencies"]}
    purls = {each["name"]: each["purl"] for each in made["components"]}
    assert purls["aiohttp"] in edges[made["metadata"]["component"]["bom-ref"]]
    assert purls["yarl"] in edges[purls["aiohttp"]]
    assert {one for each in edges.values() for one in each} == set(purls.values()), "somebody wants each of them"


def test_two_bills_of_one_lock_are_the_same_bytes_and_name_no_time_and_no_machine(
    dependencies: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    text = dependencies.sbom()
    assert text == dependencies.sbom()
    assert "timestamp" not in text
    assert "://" not in text.replace('"http://cyclonedx.org/schema/', "")
    assert str(ROOT) not in text
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert bill(dependencies)["metadata"]["timestamp"].startswith("2023-11-14T22:13:20")


def test_another_lock_has_another_serial_number_and_one_for_some_machines_has_no_bill(
    dependencies: ModuleType, copy: Path
) -> None:
    lock = copy / "requirements.lock"
    lock.write_text(lock.read_text("utf-8") + "# changed\n", "utf-8")
    changed = json.loads(dependencies.sbom(copy))
    assert changed["serialNumber"] != bill(dependencies)["serialNumber"]
    lock.write_text(
        lock.read_text("utf-8").replace("yarl==", "yarl==0 ; sys_platform == 'linux' \\\n" + HASH + "\nyarl==")
    )
    with pytest.raises(LookupError, match="yarl: not on every machine"):
        dependencies.sbom(copy)


HASH = f"    --hash=sha256:{'0' * 64}"


def planted() -> dict[str, tuple[str, str]]:
    """Secrets as they get into a repository, in their files, and the rules that find them. The same ones every time."""
    draw = random.Random(14)

    def some(alphabet: str, length: int) -> str:
        return "".join(draw.choice(alphabet) for _ in range(length))

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).rstrip(b"=").decode()

    bech32 = "QPZRY9X8GF2TVDW0S3JN54KHCE6MUA7L"
    body = {"sub": some("0123456789abcdef", 32), "token_use": "access", "username": "ada", "exp": 1_800_000_000}
    jwt = ".".join([part(b'{"kid":"Zk1w","alg":"RS256"}'), part(json.dumps(body).encode()), part(draw.randbytes(256))])
    key = ec.derive_private_key(draw.getrandbits(250), ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    letters = string.ascii_letters + string.digits
    aws = f"AKIA{some(string.ascii_uppercase + '234567', 16)}"
    return {
        "config/aws.toml": (f'access_key = "{aws}"\nsecret_key = "{some(letters, 40)}"\n', "aws-access-token"),
        "docs/identity.md": (f"AGE-SECRET-KEY-1{some(bech32, 58)}\n", "age-secret-key"),
        "tests/identity.txt": (f"AGE-SECRET-KEY-1{some(bech32, 58)}\n", "age-secret-key"),
        "tests/sealing/pq.txt": (f"AGE-SECRET-KEY-PQ-1{some(bech32, 58)}\n", "age-post-quantum"),
        "worker/core/model.py": (f'TOKEN = "{jwt}"\n', "jwt"),
        "tests/key.py": (f'KEY = """{pem}"""  # kingfisher:ignore\n', "private-key"),
        "tests/requests.jsonl": (f'{{"username": "ada", "access_token": "{jwt}"}}\n', "jwt"),
        "docs/handout.md": (
            f"otpauth://totp/Example:ada?secret={some(string.ascii_uppercase + '234567', 32)}\n",
            "otpauth",
        ),
        ".github/workflows/x.yml": (f"token: ghp_{some(letters, 36)}\n", "github-pat"),
        "worker/cli/help.py": ('TEXT = "access_token, password and AGE-SECRET-KEY-1… are never printed"\n', ""),
    }


def test_planted_secrets_are_found_in_every_folder_and_no_allowed_row_hides_one(
    secret_scan: ModuleType, tmp_path: Path
) -> None:
    plants = planted()
    for name, (text, _) in plants.items():
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
    found = secret_scan.scan(tmp_path)
    rules: dict[str, set[str]] = {}
    for each in found:
        rules.setdefault(each.path, set()).add(each.rule.split(".", 1)[1])
    wanted = {name: rule for name, (_, rule) in plants.items() if rule}
    assert {name for name, rule in wanted.items() if rule not in rules.get(name, set())} == set()
    assert "worker/cli/help.py" not in rules
    allowed = secret_scan.allowed()
    said = "\n".join(secret_scan.complaints(found, allowed))
    assert all(f"{name}:" in said for name in wanted)
    assert said.count("no longer holds") == len(allowed)
    secrets = [max(re.findall(r"[\w./+-]{20,}", text), key=len) for text, rule in plants.values() if rule]
    assert [secret for secret in secrets if secret in said] == []


def test_a_row_allows_one_value_in_one_file(secret_scan: ModuleType) -> None:
    finding = secret_scan.Finding("tests/a.py", "x.jwt", hashlib.sha256(b"one").hexdigest()[:16], 7)
    excused = {finding[:3]: "made up"}
    assert secret_scan.complaints([finding, finding._replace(line=9)], excused) == []
    for other in [
        finding._replace(path="tests/b.py"),
        finding._replace(digest="0" * 16),
        finding._replace(rule="x.aws"),
    ]:
        [new, gone] = secret_scan.complaints([other], excused)
        assert new.startswith(f"{other.path}:7: looks like a secret ({other.rule}, digest {other.digest}). Take it out")
        assert gone.startswith("tests/a.py no longer holds ")


def test_every_allowed_row_has_a_reason_and_names_a_file_of_the_tests(secret_scan: ModuleType) -> None:
    for (path, _, digest), reason in secret_scan.allowed().items():
        assert path.startswith("tests/")
        assert (ROOT / path).exists()
        assert len(digest) == 16
        assert len(reason) > 20


@pytest.mark.parametrize(
    "answer",
    ["exit 2", "exit 0", "exit 200", "echo '{\"findings\":0}'; exit 0"],
    ids=["failed", "said nothing", "named nothing", "looked at nothing"],
)
def test_a_search_that_did_not_take_place_is_no_all_clear(
    secret_scan: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answer: str
) -> None:
    tool = tmp_path / "kingfisher"
    tool.write_text(f"#!/bin/sh\n{answer}\n", "utf-8")
    tool.chmod(0o755)
    monkeypatch.setattr(secret_scan, "KINGFISHER", tool)
    with pytest.raises(RuntimeError, match="kingfisher"):
        secret_scan.scan(tmp_path)


def test_a_bill_that_the_schema_refuses_is_not_printed(dependencies: ModuleType) -> None:
    with pytest.raises(ValueError, match="the schema refuses it"):
        dependencies.validated(json.dumps({"bomFormat": "CycloneDX", "specVersion": "1.6", "components": [{}]}))
