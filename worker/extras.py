"""Libraries that only some commands need, and that ``pip install 'mfa-worker[EXTRA]'`` brings along."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from worker.core.errors import UsageError


def require(extra: str, module: str, what: str) -> ModuleType:
    """Import ``module``, which the extra brings along; ``what`` needs it, in words such as ``--letters``.

    Raises ``UsageError`` that names the line to type where it is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module.partition(".")[0]:
            raise  # the library is there, and lacks something itself
        raise UsageError(f"{what} needs the extra {extra}", f"pip install 'mfa-worker[{extra}]'") from None
