"""What to do next, as commands that can be pasted into a shell, with the settings of this rollout."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from worker.core.model import NOT_ACTIVATED, State
from worker.core.shell import command_line, quoted
from worker.report.facts import Facts
from worker.report.verdict import enrolled


class Step(NamedTuple):
    """One thing to do."""

    what: str
    """In a sentence."""
    commands: Sequence[str] = ()
    """The lines to type, one after the other."""


def steps(facts: Facts) -> Iterator[Step]:
    """Yield what to do, in the order in which it is done; nothing where nothing is left."""
    counts, waiting = facts.counts, facts.backlog.waiting
    if waiting or counts.unfinished:
        yield Step("Let a worker finish what waits. It does no harm if one is running already.", [_line(facts, "run")])
    if counts.states.get(State.NEEDS_SESSION, 0):
        yield from _again(facts, State.NEEDS_SESSION, "Sign these users in again")
    if any(counts.reasons.get(reason) for reason in NOT_ACTIVATED):
        yield from _again(facts, State.DELIVERED, "Bring a new credential for whoever has a secret that is not active")
    if counts.states.get(State.FAILED, 0):
        yield Step(
            "Look at who failed and why, mend the cause (above), and push these users again. Leave in the file only "
            "those who are not to be enrolled after all, and dismiss them.",
            [
                _line(facts, "export", "--state", "failed", to="failed.jsonl"),
                _line(facts, "dismiss", "failed.jsonl", "--why", "left the company"),
            ],
        )
    if counts.dead_letters:
        yield Step(
            "Mend why requests were received too often, then bring the dead letters back.",
            [_line(facts, "redrive"), _line(facts, "run")],
        )
    if counts.malformed:
        yield Step(
            "See which messages were malformed, and why; correct what writes them.",
            [_line(facts, "status", "--malformed")],
        )
    if counts.unrequested:
        yield Step(
            "See who is on the roster and was never requested, and push requests for them.",
            [_line(facts, "export", "--state", "unrequested", to="unrequested.jsonl")],
        )
    if enrolled(counts) and not waiting and not counts.unfinished:
        yield Step(
            "Hand the secrets out to whoever does not have theirs yet, on a machine that has the key and a copy of "
            "what was delivered. This writes a letter to each user; --qr DIR writes QR codes, --csv FILE a table.",
            [_line(facts, "open", "-i", "identity.key", "--letters", "letters.pdf")],
        )
    if not counts.accepted and not waiting:
        yield Step(
            "See what would go wrong, put requests on the queue, and start a worker.",
            [_line(facts, "check"), _line(facts, "push", "requests.jsonl"), _line(facts, "run")],
        )


def export_of(facts: Facts, state: State) -> str:
    """Return the command that lists everybody in a state."""
    return _line(facts, "export", "--state", state.value)


def _again(facts: Facts, state: State, what: str) -> Iterator[Step]:
    file = f"{state.value}.jsonl"
    listed = _line(facts, "export", "--state", state.value, to=file)
    if facts.makes_tickets:
        pushed = _line(facts, "push", "--usernames", file, "--ticket-key", "ticket.key")
        yield Step(f"{what}: list them, and push them with new tickets.", [listed, pushed, _line(facts, "run")])
    else:
        yield Step(
            f"{what}: list them, add the new credential to each line of the file, and push it.",
            [listed, _line(facts, "push", file), _line(facts, "run")],
        )


def _line(facts: Facts, *arguments: str, to: str = "") -> str:
    line = command_line(*facts.command, *arguments)
    return f"{line} > {quoted(to)}" if to else line
