"""The verdict in one sentence: is it finished, who is left; and in a few more, whom nobody has to worry about."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from worker.core.model import NOT_ACTIVATED, Counts, Reason, State
from worker.core.ports import Backlog
from worker.core.words import several


class Verdict(NamedTuple):
    """What everybody should know who reads only the top of the page."""

    word: str
    """It in one or two words, such as ``Finished``."""
    sentence: str
    more: Sequence[str]
    """Who is left in detail, and whom nobody has to worry about: further sentences."""
    is_done: bool
    """Whether nothing is left to do, for workers or for people."""


def enrolled(counts: Counts) -> int:
    """Users who hold their secret, and of whom nothing more was asked."""
    other = sum(counts.reasons.get(reason, 0) for reason in (*NOT_ACTIVATED, Reason.ACTIVATION_PENDING))
    return counts.states.get(State.DELIVERED, 0) + counts.states.get(State.ACTIVE, 0) - other


def done(counts: Counts) -> int:
    """Users of whom nothing is left to do: enrolled, or not to be enrolled."""
    return enrolled(counts) + counts.states.get(State.SKIPPED, 0)


def verdict(counts: Counts, backlog: Backlog) -> Verdict:
    """Return the verdict."""
    left, apart, word = counts.left_to_a_person, list(_apart(counts)), "Finished"
    if counts.unfinished or backlog.waiting:
        word, sentence = _not_finished(counts, backlog)
    elif not counts.accepted:
        word, sentence = "Empty", "Nothing has begun: the ledger has no users, and no request waits."
    elif left:
        sentence = f"Finished, but {left:,} of {several(counts.accepted, 'user')} {_are(left)} left to a person."
    elif apart:
        sentence = f"Every user in the ledger is done, but {_and(apart)}."
    else:
        sentence = f"Finished: {_everybody(counts)}, and nobody is left."
    more = []
    if left:
        more.append(f"{_and(list(_left(counts)))}.")
    if apart and not sentence.startswith("Every"):
        more.append(f"{_and(apart)}.")
    if done(counts):
        more.append(f"Nobody has to worry about {_and(list(_without_worry(counts)))}.")
    return Verdict(word, sentence, more, is_done=word == "Finished" and not left and not apart)


def _not_finished(counts: Counts, backlog: Backlog) -> tuple[str, str]:
    wait = "1 request waits" if backlog.waiting == 1 else f"{backlog.waiting:,} requests wait"
    waits = [wait] if backlog.waiting else []
    if not counts.accepted:
        return "Not begun", f"Not begun: {wait}, and nobody was called yet."
    parts = [f"{done(counts):,} of {several(counts.accepted, 'user')} {_are(done(counts))} done"]
    for number, said in ((counts.unfinished, "under way"), (counts.left_to_a_person, "left to a person")):
        if number:
            parts.append(f"{number:,} {_are(number)} {said}")
    return "Under way", f"Not finished: {_and([*parts, *waits])}."


def _left(counts: Counts) -> Iterator[str]:
    """Yield what is wrong with those who are left."""
    if number := counts.states.get(State.NEEDS_SESSION, 0):
        yield f"{several(number, 'user')} {'needs' if number == 1 else 'need'} a new sign-in"
    if number := counts.states.get(State.FAILED, 0):
        yield f"{number:,} failed"
    if number := sum(counts.reasons.get(reason, 0) for reason in NOT_ACTIVATED):
        yield f"{number:,} {'has' if number == 1 else 'have'} a secret that is not active as asked"


def _apart(counts: Counts) -> Iterator[str]:
    """Yield what may still stand for somebody who has no row."""
    if number := counts.dead_letters:
        yield "1 request is a dead letter" if number == 1 else f"{number:,} requests are dead letters"
    if number := counts.malformed:
        yield "1 malformed message was put aside" if number == 1 else f"{number:,} malformed messages were put aside"
    if number := counts.unrequested:
        yield f"{several(number, 'user')} of the roster {'was' if number == 1 else 'were'} never requested"


def _everybody(counts: Counts) -> str:
    accepted, holders, skipped = counts.accepted, enrolled(counts), counts.states.get(State.SKIPPED, 0)
    if not skipped:
        return "the one user is enrolled" if accepted == 1 else f"all {accepted:,} users are enrolled"
    if not holders:
        return f"{several(accepted, 'user')} {_are(accepted)} not to be enrolled"
    return f"of {several(accepted, 'user')} {holders:,} {_are(holders)} enrolled and {skipped:,} skipped"


def _without_worry(counts: Counts) -> Iterator[str]:
    if number := enrolled(counts):
        yield f"the {several(number, 'user')} whose delivered secret is the newest that Cognito issued"
    if number := counts.states.get(State.SKIPPED, 0):
        yield f"the {number:,} who {_are(number)} not to be enrolled"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


def _and(parts: Sequence[str]) -> str:
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)
