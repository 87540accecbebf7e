"""A worker that ends is run again where that helps and only there, and one that is told to stop has the time for it.

The rules of the platforms that no schema knows are written down here, each with where it is documented.
"""

from __future__ import annotations

import os
import re
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.support.manifests import (
    CONFIG,
    JOB_DEFINITION,
    KUBERNETES,
    PODS,
    SCRIPT,
    SHELL,
    TASKS_CONTAINER,
    settings_of,
)
from worker.core.errors import ExitCode
from worker.engine.tasks import HURRY_TIMEOUT

RUNS_AGAIN = {
    ExitCode.DONE: False,
    ExitCode.SOME_LEFT_OUT: False,
    ExitCode.USAGE: False,
    ExitCode.PERSON_MUST_ACT: False,
    ExitCode.INTERRUPTED: True,
    ExitCode.MAX_USERS: False,
    ExitCode.BUG: False,
    ExitCode.DEPENDENCY_UNAVAILABLE: True,
}
"""Which exit codes another attempt follows by itself."""
CLOSING = 5.0
"""Seconds in which the queue gives back what it still holds."""
BATCH_KILLS_AFTER = 30.0
"""Seconds after SIGTERM; it cannot be changed (AWS Batch user guide, "Job timeouts")."""
KILLED = 137

# --- exit codes -------------------------------------------------------------------------------------------------------


def kubernetes_action(name: str, code: int, *, disrupted: bool = False) -> str:
    """What the Job controller does; Count is what it does where no rule matches, too."""
    for rule in KUBERNETES[name]["Job"]["spec"]["podFailurePolicy"]["rules"]:
        if disrupted and "DisruptionTarget" in [each["type"] for each in rule.get("onPodConditions", [])]:
            return str(rule["action"])
        if code in rule.get("onExitCodes", {}).get("values", []):
            return str(rule["action"])
    return "Count"


def batch_action(code: int | None, status_reason: str = "Essential container in task exited") -> str:
    """What Batch does; it retries where no rule matches (API reference, "EvaluateOnExit")."""
    seen = {"onStatusReason": status_reason, "onExitCode": None if code is None else str(code)}
    for rule in JOB_DEFINITION["retryStrategy"]["evaluateOnExit"]:
        wanted = {key: value for key, value in rule.items() if key != "action"}
        if all((found := seen[key]) is not None and fnmatchcase(found, value) for key, value in wanted.items()):
            return str(rule["action"])
    return "RETRY"


def test_it_is_decided_for_every_exit_code_whether_it_runs_again() -> None:
    assert set(RUNS_AGAIN) == set(ExitCode)


@pytest.mark.parametrize("name", KUBERNETES)
def test_kubernetes_repeats_what_may_succeed_and_ends_the_job_over_the_rest(name: str) -> None:
    spec = KUBERNETES[name]["Job"]["spec"]
    listed = [rule["onExitCodes"] for rule in spec["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    assert all(each["values"] == sorted(each["values"]) and each["operator"] == "In" for each in listed)
    assert sorted(code for each in listed for code in each["values"]) == sorted(set(ExitCode) - {ExitCode.DONE})
    assert listed[0]["values"] == [ExitCode.SOME_LEFT_OUT]  # so that the Job's condition tells it by the rule's index
    assert {each["containerName"] for each in listed} == {each["name"] for each in PODS[name]["containers"]}
    for code in set(ExitCode) - {ExitCode.DONE}:
        assert kubernetes_action(name, code) == ("Count" if RUNS_AGAIN[code] else "FailJob")
        assert kubernetes_action(name, code, disrupted=True) == ("Ignore" if RUNS_AGAIN[code] else "FailJob")
    assert kubernetes_action(name, KILLED) == "Count"
    assert PODS[name]["restartPolicy"] == "Never"
    assert spec["podReplacementPolicy"] == "Failed"


def test_success_of_one_pod_is_success_of_all() -> None:
    spec = KUBERNETES["aws"]["Job"]["spec"]
    assert spec["parallelism"] > 1
    assert "completions" not in spec
    assert spec["activeDeadlineSeconds"] == JOB_DEFINITION["timeout"]["attemptDurationSeconds"]


def test_ecs_starts_again_what_may_succeed_and_nothing_else() -> None:
    policy = TASKS_CONTAINER["restartPolicy"]
    assert policy["enabled"]
    assert policy["ignoredExitCodes"] == sorted(code for code, again in RUNS_AGAIN.items() if not again)


def test_batch_retries_what_may_succeed_and_nothing_else() -> None:
    strategy = JOB_DEFINITION["retryStrategy"]
    assert len(strategy["evaluateOnExit"]) <= 5
    assert 1 <= strategy["attempts"] <= 10
    for rule in strategy["evaluateOnExit"]:
        assert re.fullmatch(r"\d*\*?", rule.get("onExitCode", ""))
    for code in set(ExitCode) - {ExitCode.DONE}:
        assert batch_action(code) == ("RETRY" if RUNS_AGAIN[code] else "EXIT")
    assert [batch_action(KILLED), batch_action(None), batch_action(9)] == ["RETRY", "RETRY", "EXIT"]
    assert batch_action(1, "Host EC2 (instance i-0123456789abcdef0) terminated.") == "RETRY"


def run_script(tmp_path: Path, *arguments: str, code: int = 0, **environ: str) -> tuple[int, list[str]]:
    """The script's exit code, and what it gives to docker, which here writes that down and exits with ``code``.

    Docker has to be the very process that was started, or signals would not reach the worker.
    """
    docker, record = tmp_path / "bin" / "docker", tmp_path / "arguments"
    docker.parent.mkdir()
    docker.write_text(f"#!/bin/sh\nprintf '%s\\n' $$ \"$@\" >'{record}'\nexit {code}\n")
    docker.chmod(0o700)
    environ = {"PATH": f"{docker.parent}:{os.environ['PATH']}", **environ}
    with subprocess.Popen([SCRIPT, *arguments], env=environ, stdin=subprocess.DEVNULL) as script:
        script.wait(timeout=10)
    if not record.exists():
        return script.returncode, []
    process, *given = record.read_text().splitlines()
    assert process == str(script.pid)
    return script.returncode, given


@pytest.mark.parametrize("code", ExitCode)
def test_the_script_becomes_docker_and_ends_with_the_exit_code_of_the_worker(code: ExitCode, tmp_path: Path) -> None:
    assert run_script(tmp_path, "run", code=code, SETTINGS=str(CONFIG / "aws.toml"))[0] == code


def test_the_script_hands_everything_on(tmp_path: Path) -> None:
    settings = tmp_path / "a folder" / "mine.toml"
    settings.parent.mkdir()
    settings.touch()
    _, arguments = run_script(
        tmp_path, "run", "--report", "a b", SETTINGS=str(settings), IMAGE="other:1", ENV_FILE="my env", STATE="here"
    )
    assert arguments[-6:] == ["--env-file", "my env", "other:1", "run", "--report", "a b"]
    assert f"type=bind,source={settings},target=/etc/mfa-worker.toml,readonly" in arguments
    assert "type=volume,source=here,target=/var/lib/mfa-worker" in arguments
    assert "MFA_WORKER_CONFIG=/etc/mfa-worker.toml" in arguments


def test_the_script_publishes_the_metrics_of_a_run_to_this_machine_alone_where_that_is_asked_for(
    tmp_path: Path,
) -> None:
    settings = str(CONFIG / "aws.toml")
    _, arguments = run_script(tmp_path, "run", SETTINGS=settings, METRICS="9464")
    assert "127.0.0.1:9464:9464" in arguments
    assert {"MFA_WORKER_METRICS__PORT=9464", "MFA_WORKER_METRICS__HOST=0.0.0.0"} <= set(arguments)
    (tmp_path / "other").mkdir()
    _, arguments = run_script(tmp_path / "other", "status", SETTINGS=settings, METRICS="9464")
    assert not [each for each in arguments if "9464" in each or "METRICS" in each]


def test_the_script_without_settings_is_a_usage_error(tmp_path: Path) -> None:
    assert run_script(tmp_path, "run", SETTINGS=str(tmp_path / "no folder" / "none")) == (ExitCode.USAGE, [])


# --- time to stop -----------------------------------------------------------------------------------------------------

STOPS = {
    **{name: float(pod["terminationGracePeriodSeconds"]) for name, pod in PODS.items()},
    "ecs": float(TASKS_CONTAINER["stopTimeout"]),
    "batch": BATCH_KILLS_AFTER,
    "docker": float(re.findall(r"--stop-timeout (\d+)", SHELL)[0]),
}


@pytest.mark.parametrize("name", STOPS)
def test_the_worker_is_done_before_it_is_killed(name: str, tmp_path: Path) -> None:
    assert settings_of(name, tmp_path).run.grace + HURRY_TIMEOUT + CLOSING < STOPS[name]


def test_ecs_takes_no_longer_time_to_stop() -> None:
    assert 30 <= TASKS_CONTAINER["stopTimeout"] <= 120  # ECS developer guide, "Container timeouts"
