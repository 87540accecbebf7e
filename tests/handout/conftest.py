"""Who hands out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.handout.handed import Desk


@pytest.fixture
def desk(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A folder of somebody's own, with a key."""
    folder = tmp_path / "desk"
    folder.mkdir(mode=0o700)
    monkeypatch.chdir(folder)
    for name in ("MFA_WORKER_CONFIG",):
        monkeypatch.delenv(name, raising=False)
    return Desk(folder, capfd)
