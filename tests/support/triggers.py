"""Loads what is in ``config/sign-in``, which no package contains: the triggers run in Lambda.

``python -m tests.support.triggers`` writes their code into the template, after a change.
"""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "config" / "sign-in"
PATH = FOLDER / "triggers.py"
TEMPLATE = FOLDER / "cloudformation.json"


def load_triggers() -> ModuleType:
    """The module, new each time, so that what one test sets in it (``read_key_with``) no other one sees."""
    return load_module(PATH)


def load_module(path: Path) -> ModuleType:
    """A file of that folder, as a new module."""
    spec = importlib.util.spec_from_file_location(f"sign_in_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def template_with_code(template: dict[str, Any]) -> str:
    """The template's text with the triggers' code in it, a line of code a line, so that people can compare it."""
    code = {"ZipFile": {"Fn::Join": ["\n", PATH.read_text("utf-8").split("\n")]}}
    template["Resources"]["Triggers"]["Properties"]["Code"] = code
    return json.dumps(template, indent=2) + "\n"


if __name__ == "__main__":
    TEMPLATE.write_text(template_with_code(json.loads(TEMPLATE.read_text("utf-8"))), "utf-8")
