"""What ``mfa-worker`` alone says: the next command, judging by which files there are.

It opens no ledger and loads no settings, which would take longer than the answer may: it looks whether a settings file
is there, and whether the ledger that it names is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from worker.core import toml
from worker.core.shell import quoted

USUAL = Path("mfa-worker.toml")
"""The name that ``init`` gives to the settings file. It is not read unless somebody names it."""

CONFIG = "MFA_WORKER_CONFIG"
"""The environment variable that names the settings file (``settings.sources.CONFIG``, whose import takes too long)."""

Steps = Mapping[str, str]
"""Commands, and what each is for."""


def next_steps(config: Path | None, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a few lines about what to type next; ``config``: what ``--config`` names."""
    named = config or (Path(environ[CONFIG]) if environ.get(CONFIG) else None)
    by_variables = any(name.startswith("MFA_WORKER_") and "__" in name for name in environ)
    file = named or (USUAL if USUAL.is_file() and not by_variables else None)
    option = f" -c {quoted(str(file))}" if file and (config or not named) else ""
    said, steps = _judged(file, option, environ) if file or by_variables else _nothing()
    widest = max(map(len, steps))
    yield said
    yield from (f"  {command:<{widest}}  # {what}" for command, what in steps.items())
    yield "All commands: mfa-worker --help"


def _nothing() -> tuple[str, Steps]:
    return "Nothing is set up in this folder. Begin with one of:", {
        "mfa-worker rehearse": "try the whole job on this machine, without AWS",
        "mfa-worker init": "write a settings file and a key pair",
    }


def _judged(file: Path | None, option: str, environ: Mapping[str, str]) -> tuple[str, Steps]:
    """What there is, and what to do next; ``option``: how the settings file must be named."""
    try:
        values = toml.parsed(file.read_text("utf-8")) if file else {}
    except OSError as error:
        said = f"The settings file {file} cannot be read ({error.strerror}). Name another with -c FILE, or:"
        return said, {"mfa-worker init --folder DIR": "write a settings file and a key pair"}
    except ValueError:
        said = f"The settings file {file} is not TOML. Next:"
        return said, {f"mfa-worker check{option}": "what is wrong with it"}
    settings = f"The settings are in {file or 'the environment'}"
    ledger = _ledger(values, file, environ)
    if ledger is None:
        return f"{settings}, and the ledger is on AWS. Next:", {
            f"mfa-worker check{option}": "what would go wrong; changes nothing",
            f"mfa-worker status{option}": "how far the rollout is, and what to do next",
        }
    if ledger.exists():
        return f"{settings}, and a rollout has begun: {ledger}. Next:", {
            f"mfa-worker status{option}": "how far it is, and what to do next",
            f"mfa-worker run{option}": "go on where the last run ended",
        }
    return f"{settings}, and no rollout has begun. Next:", {
        f"mfa-worker rehearse{option}": "the whole job with these settings, without AWS",
        f"mfa-worker check{option}": "what would go wrong with the real pool; changes nothing",
        f"mfa-worker push{option} FILE": "put requests on the queue; then run",
    }


def _ledger(values: Mapping[str, Any], file: Path | None, environ: Mapping[str, str]) -> Path | None:
    """The ledger's path, as ``settings`` finds it but for flags; ``None`` where it is on AWS."""
    beside = Path(os.path.realpath(file)).parent if file else Path()

    def given(section: str, key: str) -> Path | None:
        if variable := environ.get(f"MFA_WORKER_{section}__{key}".upper()):
            return Path(variable)
        table = values.get(section)
        value = table.get(key) if isinstance(table, dict) else None
        return beside / value if isinstance(value, str) and value else None

    kind = given("ledger", "kind")
    if kind and kind.name != "sqlite":
        return None
    return (
        given("ledger", "path")
        or given("queue", "path")
        or Path(environ.get("MFA_WORKER_STATE") or beside, "mfa-worker.db")
    )
