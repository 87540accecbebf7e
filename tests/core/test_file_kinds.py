"""Text in UTF-8 is let through, and of anything else it is known whether Python can read it as text."""

from __future__ import annotations

import gzip

import pytest

from worker.core.file_kinds import foreign

TEXT = '{"username": "zo\u00eb"}\n'


@pytest.mark.parametrize("text", ["", "{", TEXT, "\ufeff" + TEXT, "\u00eb\u00eb\u00eb", "\U0001f984"])
def test_text_in_utf_8_is_not_foreign_however_short(text: str) -> None:
    assert foreign(text.encode()) is None


@pytest.mark.parametrize("mark", ["\ufeff", ""], ids=["with a mark", "without"])
@pytest.mark.parametrize("encoding", ["utf-16-be", "utf-16-le", "utf-32-be", "utf-32-le"])
def test_python_reads_another_encoding_by_the_codec_that_is_named(encoding: str, mark: str) -> None:
    data = (mark + TEXT).encode(encoding)
    found = foreign(data)
    assert found is not None
    assert found.codec is not None
    assert data.decode(found.codec) == mark + TEXT
    assert found.flaw == f"{found.what}: {found.cure}"


def test_what_is_no_text_has_no_codec() -> None:
    found = foreign(gzip.compress(TEXT.encode()))
    assert found is not None
    assert found.codec is None
