"""What a command says that needs a library which is not installed."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from worker.core.errors import ExitCode, UsageError
from worker.extras import require


def test_a_library_that_is_there_is_imported() -> None:
    assert require("handout", "json", "open --qr") is json


@pytest.mark.parametrize("module", ["no_such_library", "no_such_library.inside"])
def test_a_missing_extra_is_named_with_the_line_that_installs_it(module: str) -> None:
    with pytest.raises(UsageError) as raised:
        require("handout", module, "open --letters")

    assert str(raised.value) == "open --letters needs the extra handout"
    assert raised.value.hint == "pip install 'mfa-worker[handout]'"
    assert raised.value.exit_code is ExitCode.USAGE


def test_a_library_that_is_there_but_broken_is_not_called_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "half_a_library.py").write_text("import what_it_needs_itself\n")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ModuleNotFoundError, match="what_it_needs_itself"):
        require("handout", "half_a_library", "open --letters")
    sys.modules.pop("half_a_library", None)
