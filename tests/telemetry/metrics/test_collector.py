"""What is scraped: every metric that is defined and no other, by Prometheus' conventions, with bounded labels."""

from __future__ import annotations

import re
from pathlib import Path

from prometheus_client import generate_latest
from prometheus_client.openmetrics import exposition, parser

from tests.support.metrics import Samples, samples, total, value
from worker.core.clock import SystemClock
from worker.core.model import NOT_ACTIVATED, STATE_OF, Counts, Reason, State, Trouble
from worker.core.ports import Backlog
from worker.core.stats import RunStats
from worker.telemetry.metrics.collector import registry
from worker.telemetry.metrics.definitions import ALL, OWN, ROLLOUT
from worker.telemetry.metrics.watched import Dependency, Rollout, Watched, dependency

COUNTS = Counts(
    states={State.DELIVERED: 70, State.SEALED: 2, State.IN_PROGRESS: 3, State.FAILED: 5, State.NEEDS_SESSION: 20},
    reasons={"reply_lost": 12, "token_expired": 8, "refused": 4, "of_a_later_version": 1, "verify_refused": 6},
    duplicates=9,
    malformed=7,
    dead_letters=1,
)
ROLLOUT_NOW = Rollout(COUNTS, Backlog(40, 4), 1_800_000_000.0, 1_799_999_000.0)


class Loop:
    """A loop that works on three users and waits for nothing."""

    under_way = 3
    knows_time = True
    waiting_for: str | None = None


def watched(rollout: Rollout | None = ROLLOUT_NOW) -> Watched:
    stats = RunStats(SystemClock())
    stats.settled(State.DELIVERED)
    stats.settled(State.DELIVERED)
    stats.settled(State.NEEDS_SESSION, Reason.REPLY_LOST)
    stats.answered("AssociateSoftwareToken", "issued", 0.07)
    stats.answered("AssociateSoftwareToken", "throttled", 0.01)
    stats.answered("InitiateAuth", "challenge", 20.0)
    for operation, brought in {"VerifySoftwareToken": "verified", "SetUserMFAPreference": "preferred"}.items():
        stats.answered(operation, brought, 0.05)
    stats.finished_after(0.3)
    found = Watched(stats, watchdog=300, ending_takes=30, work=Loop(), rollout=rollout)
    found.skew = lambda: -0.5
    return found


def scraped(found: Watched) -> Samples:
    return samples(generate_latest(registry(found)).decode())


def test_every_metric_that_is_defined_is_scraped_with_its_type_help_and_labels_and_no_other() -> None:
    text = generate_latest(registry(watched())).decode()
    helps = dict(re.findall(r"^# HELP (\S+) (.*)$", text, flags=re.MULTILINE))
    kinds = dict(re.findall(r"^# TYPE (\S+) (.*)$", text, flags=re.MULTILINE))

    assert helps == {each.name: each.help for each in ALL}
    assert kinds == {each.name: each.kind for each in ALL}
    labels = {each.name: set(each.labels) for each in ALL}
    for name, given in samples(text):
        known = labels.get(name) or labels.get(re.sub("_(bucket|count|sum)$", "", name), set())
        assert {label for label, _ in given} - {"le"} == known, name


def test_names_follow_the_conventions() -> None:
    for each in ALL:
        assert each.name.startswith("mfa_worker_")
        assert each.name.endswith("_total") == (each.kind == "counter"), each.name
        assert each.help.endswith("."), each.name
        assert not re.search("milli|micro|minutes|hours|_ms$", each.name)


def test_both_formats_are_readable() -> None:
    text = exposition.generate_latest(registry(watched())).decode()  # type: ignore[no-untyped-call]

    assert text.endswith("# EOF\n")
    names = {family.name for family in parser.text_string_to_metric_families(text)}  # type: ignore[no-untyped-call]
    assert "mfa_worker_settled_users" in names


def test_the_numbers_are_those_of_the_run() -> None:
    found = scraped(watched())

    assert value(found, "mfa_worker_settled_users_total", state="delivered", reason="") == 2
    assert value(found, "mfa_worker_settled_users_total", state="needs_session", reason="reply_lost") == 1
    assert total(found, "mfa_worker_settled_users_total") == 3
    call = {"operation": "AssociateSoftwareToken"}
    assert value(found, "mfa_worker_attempts_total", **call, answer="issued") == 1
    assert value(found, "mfa_worker_attempts_total", **call, answer="throttled") == 1
    assert value(found, "mfa_worker_attempts_total", operation="InitiateAuth", answer="challenge") == 1
    buckets = {
        dict(given)["le"]: number
        for (name, given), number in found.items()
        if name == "mfa_worker_attempt_duration_seconds_bucket" and call.items() <= dict(given).items()
    }
    assert (buckets["0.005"], buckets["0.05"], buckets["0.1"], buckets["+Inf"]) == (0, 1, 2, 2)
    slow = {"operation": "InitiateAuth"}
    assert value(found, "mfa_worker_attempt_duration_seconds_bucket", **slow, le="10.0") == 0
    assert value(found, "mfa_worker_attempt_duration_seconds_sum", **slow) == 20
    assert value(found, "mfa_worker_lease_to_outcome_seconds_count") == 1
    assert value(found, "mfa_worker_in_flight_users") == 3
    assert value(found, "mfa_worker_clock_skew_seconds") == -0.5


def test_the_numbers_of_the_rollout_are_those_that_were_counted_last() -> None:
    found = scraped(watched())

    assert total(found, "mfa_worker_rollout_users") == COUNTS.accepted
    for state in State:
        assert total(found, "mfa_worker_rollout_users", state=state) == COUNTS.states.get(state, 0)
    assert value(found, "mfa_worker_rollout_users", state="needs_session", reason="token_expired") == 8
    assert value(found, "mfa_worker_rollout_users", state="delivered", reason="") == 64
    assert value(found, "mfa_worker_rollout_unfinished_users") == 5
    assert value(found, "mfa_worker_rollout_sealed_undelivered_users") == 2
    assert value(found, "mfa_worker_rollout_backlog_requests") == 40
    assert value(found, "mfa_worker_rollout_backlog_expired_requests") == 4
    assert value(found, "mfa_worker_rollout_earliest_deadline_timestamp_seconds") == 1_800_000_000
    assert value(found, "mfa_worker_rollout_dead_letters") == 1


def test_nothing_is_said_of_a_rollout_that_was_not_counted_yet_or_of_what_nobody_knows() -> None:
    names = {name for name, _ in scraped(watched(rollout=None))}
    assert not [name for name in names if name.startswith("mfa_worker_rollout_")]

    unknown = Rollout(Counts({}, {}, dead_letters=None), Backlog(0), None, 0.0)
    names = {name for name, _ in scraped(watched(rollout=unknown))}
    assert "mfa_worker_rollout_dead_letters" not in names
    assert "mfa_worker_rollout_earliest_deadline_timestamp_seconds" not in names


def test_every_outcome_and_answer_is_there_from_the_start_so_that_the_first_one_is_no_surprise() -> None:
    found = scraped(Watched(RunStats(SystemClock()), 300, 30))

    shown = {dict(given)["reason"] for name, given in found if name == "mfa_worker_settled_users_total"}
    assert shown == {"", *Reason}
    for trouble in Trouble:
        attempts = {"operation": "AssociateSoftwareToken", "answer": trouble.value}
        assert value(found, "mfa_worker_attempts_total", **attempts) == 0


def test_there_are_never_more_series_than_the_worker_has_words_whatever_it_meets() -> None:
    found = watched(Rollout(Counts({}, {f"reason_{number}": 1 for number in range(1_000)}), Backlog(0), None, 0.0))
    for number in range(1_000):
        found.stats.postponed(f"user-{number}", now=True)

    assert len(scraped(found)) < 250
    assert len(STATE_OF) == len(Reason)
    assert set(Reason) > NOT_ACTIVATED


def test_what_is_waited_for_is_one_of_a_few_words() -> None:
    found = watched()
    loop = Loop()
    found.work = loop
    for text, word in {
        "Cognito's endpoint to answer (ClientConnectorError)": Dependency.ENDPOINT,
        "Cognito to stop refusing everybody (WAF)": Dependency.POOL,
        "the ledger: /home/ana/mfa-worker.db is locked": Dependency.LEDGER,
        "the ledger to confirm a write": Dependency.LEDGER,
        "the channel: no space left": Dependency.CHANNEL,
        "the channel to take the secrets that are sealed": Dependency.CHANNEL,
        "ana": Dependency.OTHER,
    }.items():
        loop.waiting_for = text
        page = generate_latest(registry(found)).decode()
        assert dependency(text) is word
        assert value(samples(page), "mfa_worker_waiting", dependency=word.value) == 1
        assert total(samples(page), "mfa_worker_waiting") == 1
        assert value(samples(page), "mfa_worker_ready") == 0
        assert "ana" not in page.replace("ended", "")


def test_every_text_of_the_worker_that_says_what_it_waits_for_is_known() -> None:
    source = "".join(path.read_text() for path in (Path(__file__).parents[3] / "worker/core").rglob("*.py"))
    texts = {
        "Cognito's endpoint to answer (",
        "Cognito to stop refusing everybody (",
        "the ledger to confirm a write",
        "the ledger: ",
        "the channel: ",
        "the channel to take the secrets that are sealed",
    }
    assert [text for text in texts if text not in source] == []
    assert Dependency.OTHER not in {dependency(text) for text in texts}


def test_the_two_kinds_of_metrics_can_be_told_by_their_names() -> None:
    assert all(each.name.startswith("mfa_worker_rollout_") for each in ROLLOUT)
    assert not any(each.name.startswith("mfa_worker_rollout_") for each in OWN)


def test_the_page_has_every_metric_as_it_is_defined() -> None:
    page = (Path(__file__).parents[3] / "docs" / "metrics.md").read_text()
    rows = [
        f"| `{each.name}` | {each.kind} | {each.unit} | {labels} | {each.help} |"
        for each in ALL
        for labels in [", ".join(f"`{label}`" for label in each.labels)]
    ]
    assert re.findall(r"^\| `mfa_worker_.*$", page, flags=re.MULTILINE) == rows
    assert all(each.unit for each in ALL if not each.name.endswith(("_waiting", "_ready", "_info")))
