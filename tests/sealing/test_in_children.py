"""Sealing to a key of a plugin: in children, so that one that hangs, dies or asks harms nobody, and sees little."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.age_plugin import Mood, Plugin
from tests.support.processes import until
from worker.core.errors import PersonMustAct, UsageError
from worker.core.ports import SlowSealer
from worker.sealing.age import AgeOpener, AgeSealer, keygen
from worker.sealing.in_children import SealerInChildren
from worker.sealing.trial import opened_sealer, sealer_to, try_out

TEXT, RECIPIENT = keygen("today")


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plugin:
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    return Plugin(tmp_path)


@pytest.fixture
def sealer(plugin: Plugin) -> Iterator[SealerInChildren]:
    made = SealerInChildren([RECIPIENT, plugin.recipient], patience=30.0, pause=0.01)
    yield made
    made.close()


@pytest.fixture
def opener(tmp_path: Path) -> AgeOpener:
    (key := tmp_path / "key").touch(0o600)
    key.write_text(TEXT)
    return AgeOpener([key])


def test_only_a_plugin_makes_sealing_slow(plugin: Plugin) -> None:
    assert not isinstance(sealer_to([RECIPIENT]), SlowSealer)
    sealer = sealer_to([RECIPIENT, plugin.recipient])
    assert isinstance(sealer, SlowSealer)
    sealer.close()


def test_a_plugin_sees_no_credential_and_its_arguments_hold_nothing(
    plugin: Plugin, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "MFA_WORKER_SIGN_IN__CLIENT_SECRET", "AGEDEBUG", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "plugin")
    with opened_sealer([plugin.recipient]):
        seen = plugin.seen
    assert seen["arguments"] == ["--age-plugin=recipient-v1"]
    assert isinstance(seen["environment"], dict)
    assert not {"AWS_SECRET_ACCESS_KEY", "AGEDEBUG", "HTTPS_PROXY", "PYTHONPATH"} & seen["environment"].keys()
    assert not [name for name in seen["environment"] if name.startswith("MFA_WORKER_")]
    assert "PATH" in seen["environment"]


def test_what_it_takes_is_measured_so_that_the_size_is_known_before(sealer: SealerInChildren) -> None:
    try_out(sealer)
    for size in (0, 400, 65_537):
        said = sealer.sealed_size(size)
        assert len(sealer.seal(b"x" * size)) <= said
    assert 200 < sealer.room < 2_000


def test_a_question_of_the_plugin_is_answered_by_nobody(sealer: SealerInChildren, plugin: Plugin) -> None:
    plugin.mood = Mood.ASKS_FOR_PIN
    with pytest.raises(PersonMustAct, match=r"it asked 'PIN of the token', and nobody answers at a worker"):
        sealer.seal(b"x")


def test_a_message_of_the_plugin_stops_nothing(sealer: SealerInChildren, plugin: Plugin, opener: AgeOpener) -> None:
    plugin.mood = Mood.TALKS
    assert opener.open(sealer.seal(b"x")) == b"x"


@pytest.mark.parametrize(
    ("mood", "said"),
    [
        (Mood.DIES, "unexpectedly died"),
        (Mood.NOT_PLUGGED_IN, "the token is not plugged in"),
        (Mood.MAKES_NOTHING, "neither stanzas nor errors"),
        (Mood.IS_POST_QUANTUM, "with labels 'postquantum' alongside"),
    ],
)
def test_a_plugin_that_fails_is_found_by_the_trial_and_is_wrong_usage(
    sealer: SealerInChildren, plugin: Plugin, mood: Mood, said: str
) -> None:
    plugin.mood = mood
    with pytest.raises(UsageError, match=said) as caught:
        try_out(sealer)
    assert "the age plugin hardware does not seal" in str(caught.value)
    assert caught.value.hint.endswith("mfa-worker check says when it works.")
    plugin.mood = Mood.WORKS
    try_out(sealer)


async def test_a_plugin_that_hangs_is_ended_and_nobody_waits_for_it(plugin: Plugin) -> None:
    sealer = SealerInChildren([plugin.recipient], patience=1.5, pause=0.01)
    plugin.mood = Mood.HANGS
    sealing = asyncio.create_task(sealer.aside(lambda: sealer.seal(b"x")))
    turns = 0
    while not sealing.done():
        await asyncio.sleep(0.01)
        turns += 1
    with pytest.raises(PersonMustAct, match=r"it gave no answer within 1\.5 s"):
        await sealing
    assert turns > 20
    process = plugin.seen["process"]
    assert isinstance(process, int)
    await until(lambda: not _runs(process))
    plugin.mood, sealer._patience = Mood.WORKS, 30.0
    assert await sealer.aside(lambda: sealer.seal(b"x"))
    sealer.close()


async def test_closing_ends_a_seal_that_waits_for_a_plugin_at_once(plugin: Plugin) -> None:
    sealer = SealerInChildren([plugin.recipient], patience=60.0)
    plugin.mood = Mood.HANGS
    sealing = asyncio.create_task(sealer.aside(lambda: sealer.seal(b"x")))
    await until(lambda: plugin.program.with_name(plugin.program.name + ".seen").exists())
    sealer.close()
    with pytest.raises(PersonMustAct, match="the process that seals has died"):
        await asyncio.wait_for(sealing, 20.0)
    assert not sealer._all


def test_a_missing_program_is_said_with_the_line_that_cures_it(plugin: Plugin) -> None:
    plugin.program.unlink()
    with pytest.raises(UsageError, match=r"entry 2 of .*age-plugin-hardware is not on the PATH") as caught:
        sealer_to([RECIPIENT, plugin.recipient])
    assert "COPY age-plugin-hardware /usr/local/bin/" in caught.value.hint
    with pytest.raises(UsageError, match="not on the PATH"):
        AgeSealer([plugin.recipient])


def test_a_program_that_is_taken_away_while_it_is_needed_is_named(sealer: SealerInChildren, plugin: Plugin) -> None:
    try_out(sealer)
    plugin.program.unlink()
    with pytest.raises(PersonMustAct) as caught:
        sealer.seal(b"x")
    assert "put age-plugin-hardware back on the PATH" in caught.value.hint


def test_two_keys_of_a_plugin_cost_one_process(tmp_path: Path, plugin: Plugin, opener: AgeOpener) -> None:
    (tmp_path / "other").mkdir()
    other = Plugin(tmp_path / "other")
    with opened_sealer([plugin.recipient, other.recipient, RECIPIENT]) as sealer:
        assert opener.open(sealer.seal(b"x")) == b"x"
    assert not other.program.with_name(other.program.name + ".seen").exists()


def _runs(process: int) -> bool:
    """Whether it is there and no mere entry in the table of processes."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
