"""Commands that can be pasted into a shell, whatever a name contains."""

from __future__ import annotations

import os
import subprocess

import pytest

from worker.core.shell import command_line


@pytest.mark.parametrize(
    "word",
    [
        "plain",
        "two words",
        "it's",
        '$HOME `id` "x"',
        "",
        "-n",
        "zoë",
        "line\nbreak",
        "\x1b[31mred",
        "\u202eback",
        "'\\\t\u2028",
        pytest.param(os.fsdecode(b"caf\xe9.pdf"), id="the name of a file that is no UTF-8"),
    ],
)
def test_a_shell_reads_each_word_as_it_was_and_the_line_is_printable(word: str) -> None:
    line = command_line("printf", "%s", word)
    assert line.isprintable()
    read = subprocess.run(["bash", "-c", line], capture_output=True, check=True).stdout
    assert read == word.encode("utf-8", "surrogateescape")


def test_what_can_be_read_stays_readable_beside_what_cannot() -> None:
    assert command_line("show", "line\nbreak") == r"show $'line\x0abreak'"
