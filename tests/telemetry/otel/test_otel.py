"""OpenTelemetry: a trace for each user, nobody named and nothing secret in it, and a collector that harms no run."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest
from opentelemetry.sdk.trace import TracerProvider

from tests.support.otlp import Collector, attributes, collecting
from tests.support.processes import Ended
from tests.support.rollout import POOL, Rollout
from worker.app import observing
from worker.core.clock import SystemClock
from worker.core.errors import UsageError
from worker.core.figures import ENROLS
from worker.telemetry.otel.pseudonyms import Pseudonyms
from worker.telemetry.otel.traces import OUTCOME, USER, Traces


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


async def run(rollout: Rollout, *users: str, **env: str) -> Ended:
    return await rollout.run("--input", rollout.file(await rollout.sign_in(*users)), env=env)


def said(ended: Ended) -> list[dict[str, object]]:
    return ended.logged("telemetry_not_exported")


async def test_each_user_has_a_trace_with_the_steps_of_their_way(rollout: Rollout, collector: Collector) -> None:
    await rollout.fake_cognito.set_faults("conflict@ben=1x", "token_revoked@eve=1x")
    rollout.configure(otel={"endpoint": collector.url})

    assert (await run(rollout, "ana", "ben", "eve")).code == 1

    ways = {attributes(root)[OUTCOME]: [step.name for step in steps] for root, steps in collector.ways()}
    assert len(collector.ways()) == 3
    assert ways["needs_session:token_revoked"] == ["claim", ENROLS]
    for root, steps in collector.ways():
        assert root.name == "enrol"
        for step in steps:
            assert step.trace_id == root.trace_id
            assert root.start_time_unix_nano <= step.start_time_unix_nano <= step.end_time_unix_nano
            assert step.end_time_unix_nano <= root.end_time_unix_nano
        answers = [attributes(step).get("mfa_worker.answer") for step in steps if step.name == ENROLS]
        if len(answers) == 2:
            assert answers == ["conflict", "issued"]
        elif attributes(root)[OUTCOME] == "delivered":
            assert [step.name for step in steps] == ["claim", ENROLS, "seal", "record", "deliver", "settle"]
    assert collector.resources[0]["service.name"] == "mfa-worker"
    assert collector.resources[0]["mfa_worker.user_pool_id"] == POOL
    assert abs(collector.spans[0].start_time_unix_nano / 1e9 - time.time()) < 120


async def test_nobody_is_named_and_a_user_is_the_same_in_every_run(rollout: Rollout, collector: Collector) -> None:
    rollout.configure(otel={"endpoint": collector.url})
    users = ["ana-who-is-unique", "ben-who-is-unique"]

    await run(rollout, *users)
    first = {attributes(root)[USER] for root, _ in collector.ways()}
    collector.spans.clear()
    await run(rollout, *users)  # duplicates now

    assert {attributes(root)[USER] for root, _ in collector.ways()} == first
    assert {attributes(root)[OUTCOME] for root, _ in collector.ways()} == {"duplicate"}
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in first)
    everything = b"".join(collector.bodies)
    assert b"who-is-unique" not in everything
    for secret in {*rollout.credentials, *rollout.secrets}:
        assert secret.encode() not in everything


async def test_the_metrics_say_what_the_run_counted(rollout: Rollout, collector: Collector) -> None:
    rollout.configure(otel={"endpoint": collector.url})
    await run(rollout, "ana", "ben", OTEL_EXPORTER_OTLP_HEADERS="x-api-key=of-a-vendor")

    last = collector.metrics[-1]
    (settled,) = last["mfa_worker_settled_users"].sum.data_points
    assert (settled.as_int, last["mfa_worker_settled_users"].sum.is_monotonic) == (2, True)
    assert {each.key: each.value.string_value for each in settled.attributes} == {"state": "delivered", "reason": ""}
    (latency,) = last["mfa_worker_attempt_duration_seconds"].histogram.data_points
    assert latency.count == sum(latency.bucket_counts) == 2
    assert len(latency.bucket_counts) == len(latency.explicit_bounds) + 1
    assert not latency.HasField("min")
    assert last["mfa_worker_attempt_duration_seconds"].unit == "s"
    assert last["mfa_worker_rate_configured_requests_per_second"].gauge.data_points[0].as_double == 200
    assert {headers["x-api-key"] for headers in collector.headers} == {"of-a-vendor"}


async def test_a_whole_rollout_shows_sign_ins_and_activation(rollout: Rollout, collector: Collector) -> None:
    told = ("--users", "3", "--latency", "0", "--set", f"otel.endpoint={collector.url}")
    ended = await rollout.command("rehearse", "--from", "usernames", "--activate", *told, config=False)
    assert ended.code == 0, ended.err
    steps = [step.name for step in collector.ways()[0][1]]
    for expected in ("InitiateAuth", "RespondToAuthChallenge", "GetUser", ENROLS, "VerifySoftwareToken", "activate"):
        assert expected in steps


async def test_a_collector_that_is_away_is_said_once_and_costs_nothing(rollout: Rollout) -> None:
    rollout.configure(otel={"endpoint": "http://127.0.0.1:1"})
    ended = await run(rollout, *(f"user-{number}" for number in range(40)))
    assert ended.code == 0
    (line,) = said(ended)
    assert line["endpoint"] == "127.0.0.1:1"
    assert "nobody is affected" in str(line["cure"])
    assert "Traceback" not in ended.err


async def test_a_collector_that_refuses_is_said_once(rollout: Rollout, collector: Collector) -> None:
    rollout.configure(otel={"endpoint": collector.url})
    collector.status = 401
    ended = await run(rollout, "ana", OTEL_EXPORTER_OTLP_HEADERS="authorization=Bearer-very-secret")
    assert ended.code == 0
    (line,) = said(ended)
    assert "401" in str(line["cause"])
    assert "very-secret" not in ended.err


async def test_a_collector_that_never_answers_holds_no_run_up(rollout: Rollout, collector: Collector) -> None:
    rollout.configure(otel={"endpoint": collector.url})
    collector.hangs = True
    began = time.monotonic()
    ended = await run(rollout, "ana")
    assert ended.code == 0
    assert len(said(ended)) == 1
    assert time.monotonic() - began < 20  # the SDK itself would wait for 30 s and more


async def test_nothing_is_sent_unless_a_setting_asks_for_it(rollout: Rollout, collector: Collector) -> None:
    ended = await run(rollout, "ana", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    assert ended.code == 0
    assert collector.bodies == []


async def test_a_missing_extra_is_refused_before_anything_is_touched(
    rollout: Rollout, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(extra: str, module: str, what: str) -> None:  # as where another package brought the API alone
        if module != "opentelemetry.sdk":
            raise ModuleNotFoundError(module, name=module)

    monkeypatch.setattr(observing, "require", missing)
    rollout.configure(otel={"endpoint": "http://127.0.0.1:4318"})
    with pytest.raises(UsageError, match=r"otel\.endpoint needs the extra otel"):
        observing.refuse_without_otel(rollout.settings())


@pytest.mark.parametrize(
    "endpoint",
    ["127.0.0.1:4318", "grpc://127.0.0.1:4317", "http://me:secret@127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"],
)
async def test_what_is_no_collector_is_refused(rollout: Rollout, endpoint: str) -> None:
    rollout.configure(otel={"endpoint": endpoint})
    with pytest.raises(UsageError, match=r"otel\.endpoint") as refused:
        rollout.settings()
    assert "secret@" not in str(refused.value)


# --- pseudonyms and samples -------------------------------------------------------------------------------------------


def test_pseudonyms_depend_on_the_key() -> None:
    assert Pseudonyms(b"one").of("ana") == Pseudonyms(b"one").of("ana") != Pseudonyms(b"two").of("ana")
    assert len({Pseudonyms(b"one").of(f"user-{number}") for number in range(2_000)}) == 2_000
    assert Pseudonyms(b"one").of("\ud800 torn")


def test_a_share_of_the_users_is_traced_and_always_the_same_ones() -> None:
    def traced(sample: float, key: bytes = b"key") -> set[str]:
        provider = TracerProvider(shutdown_on_exit=False)
        traces = Traces(provider, Pseudonyms(key), SystemClock(), sample)
        return {f"user-{number}" for number in range(1_000) if traces.begins(f"user-{number}", "enrol") is not None}

    assert len(traced(1.0)) == 1_000
    assert 60 < len(traced(0.1)) < 140
    assert traced(0.1) == traced(0.1) < traced(0.5)
