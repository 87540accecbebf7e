"""Loads the pool's triggers, ``config/sign-in/triggers.py``, which no package contains: they run in Lambda."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

PATH = Path(__file__).resolve().parents[2] / "config" / "sign-in" / "triggers.py"


def load_triggers() -> ModuleType:
    """The module, new each time, so that what one test sets in it (``read_key_with``) no other one sees."""
    spec = importlib.util.spec_from_file_location("sign_in_triggers", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
