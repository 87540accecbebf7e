"""A disk that is full or became read-only is away, and nothing that was confirmed is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.disks import make_read_only, small_disk
from tests.support.words import add, opened, words
from worker.core.errors import LedgerUnavailable


async def test_a_full_disk_is_away_and_works_again_when_there_is_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 600) as folder:
        async with opened(folder / "rollout.db") as database:
            (folder / "ballast").write_bytes(b"x" * 300_000)
            confirmed: list[str] = []

            async def fill() -> None:
                while True:
                    await database.write(add, word := f"{len(confirmed)} " + "x" * 2000, LedgerUnavailable)
                    confirmed.append(word)

            with pytest.raises(LedgerUnavailable, match="full") as caught:
                await fill()
            assert "free space" in caught.value.hint
            assert await database.read(words, LedgerUnavailable) == confirmed
            (folder / "ballast").unlink()
            await database.write(add, "after", LedgerUnavailable)
        async with opened(folder / "rollout.db") as database:
            assert await database.read(words, LedgerUnavailable) == [*confirmed, "after"]


async def test_a_disk_that_is_full_from_the_beginning_is_away(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 16) as folder:
        (folder / "ballast").write_bytes(b"x" * 12_000)
        with pytest.raises(LedgerUnavailable):
            async with opened(folder / "rollout.db"):
                pass


async def test_a_disk_that_became_read_only_is_away(tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", 600) as folder:
        async with opened(folder / "rollout.db") as database:
            await database.write(add, "one", LedgerUnavailable)
        make_read_only(folder)
        with pytest.raises(LedgerUnavailable):
            async with opened(folder / "rollout.db"):
                pass
