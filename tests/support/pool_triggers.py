"""The Lambda triggers of ``config/sign-in``, loaded as Lambda loads them, for the fake Cognito to run."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from worker.rehearsal.fake_cognito.config import FakeCognitoConfig

TRIGGERS = Path(__file__).resolve().parents[2] / "config" / "sign-in" / "triggers.py"
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
"""The key that they check tickets with, as a key file has it."""
CLIENT = FakeCognitoConfig().client_id
"""The app client whose tickets they take."""


def installed(set_variable: Callable[[str, str], object], **environment: str) -> Any:
    """The module, new, with the variables that the template gives the function (``set_variable`` sets one)."""
    spec = importlib.util.spec_from_file_location("triggers_of_the_pool", TRIGGERS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.read_key_with(lambda: KEY)
    ends = str(int(time.time()) + 86_400)
    for name, value in {"CLIENT_ID": CLIENT, "ROLLOUT_ENDS": ends, "KEY_SECRET": "key", **environment}.items():
        set_variable(name, value)
    return module
