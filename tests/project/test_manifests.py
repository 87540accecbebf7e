"""What is handed to Kubernetes, ECS, Batch and Docker is valid there, safe, and of one mind with the settings."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]
import pytest
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator
from kubernetes_validate.utils import resources_from_file  # type: ignore[import-untyped]

from tests.support.manifests import (
    CONFIG,
    DOCKERFILE,
    KUBERNETES,
    ON_AWS,
    PODS,
    ROOT,
    SCRIPT,
    SHELL,
    TASK,
    TASKS_CONTAINER,
    read_json,
    settings_of,
)
from worker.cli import cli
from worker.settings import explain, load

MANIFESTS = sorted(path for path in CONFIG.rglob("*") if path.suffix in {".json", ".sh", ".toml", ".yaml"})
OPERATIONS = {
    "ecs/task-definition.json": ("ecs", "RegisterTaskDefinition"),
    "ecs/run-task.json": ("ecs", "RunTask"),
    "ecs/schedule.json": ("scheduler", "CreateSchedule"),
    "batch/job-definition.json": ("batch", "RegisterJobDefinition"),
}

NAMES = {
    "queue.url": "mfa-worker",
    "queue.dead_letter_url": "mfa-worker-dead-letters",
    "channel.url": "mfa-worker-delivered",
    "channel.bucket": "mfa-worker-123456789012",
}
"""What the examples call the things on AWS: whoever mixes two documents must not end with two queues."""


@pytest.mark.parametrize(
    "path", [*MANIFESTS, *sorted(CONFIG.rglob("*.md"))], ids=lambda path: str(path.relative_to(CONFIG))
)
def test_every_document_calls_a_queue_and_a_bucket_by_the_same_name(path: Path) -> None:
    text = path.read_text("utf-8")
    queues = set(re.findall(r"https://sqs\.[a-z0-9-]+\.amazonaws\.com/\d+/([\w.-]+)", text))
    assert queues <= {NAMES["queue.url"], NAMES["queue.dead_letter_url"], NAMES["channel.url"]}
    assert set(re.findall(r"mfa-worker-[a-z]*letters|[\w-]*malformed(?=\"|`)", text)) <= {
        NAMES["queue.dead_letter_url"]
    }
    assert set(re.findall(r'bucket"? ?[=:] "([\w.-]+)"', text, re.IGNORECASE)) <= {NAMES["channel.bucket"]}


# --- valid ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["1.31", kubernetes_validate.latest_version()])
@pytest.mark.parametrize("path", sorted((CONFIG / "kubernetes").glob("*.yaml")), ids=lambda path: path.stem)
def test_kubernetes_takes_every_object(path: Path, version: str) -> None:
    for resource in resources_from_file(str(path)):
        kubernetes_validate.validate(resource, version, strict=True)


def violations(shape: Any, value: Any, where: str) -> Iterator[str]:
    """What the SDK leaves to the service: choices, patterns and ranges."""
    if shape.type_name == "structure":
        for key, each in value.items():
            yield from violations(shape.members[key], each, f"{where}.{key}")
    elif shape.type_name == "list":
        for number, each in enumerate(value):
            yield from violations(shape.member, each, f"{where}[{number}]")
    elif getattr(shape, "enum", None) and value not in shape.enum:
        yield f"{where} is none of {shape.enum}"
    elif "pattern" in shape.metadata and not re.search(shape.metadata["pattern"], value):
        yield f"{where} does not match {shape.metadata['pattern']}"
    elif shape.type_name == "integer" and not (
        shape.metadata.get("min", value) <= value <= shape.metadata.get("max", value)
    ):
        yield f"{where} is out of range"


@pytest.mark.parametrize("name", OPERATIONS)
def test_the_aws_api_takes_every_document(name: str) -> None:
    service, operation = OPERATIONS[name]
    shape = ServiceModel(Loader().load_service_model(service, "service-2")).operation_model(operation).input_shape
    found = read_json(name)
    assert shape is not None
    assert ParamValidator().validate(found, shape).generate_report() == ""
    assert list(violations(shape, found, name)) == []


def test_every_document_that_starts_workers_on_aws_is_validated() -> None:
    found = [*(CONFIG / "ecs").iterdir(), *(CONFIG / "batch").iterdir()]
    assert {str(path.relative_to(CONFIG)) for path in found} == set(OPERATIONS)


def test_the_script_is_strict_and_parses() -> None:
    assert "\nset -euo pipefail\n" in SCRIPT.read_text()
    assert os.access(SCRIPT, os.X_OK)
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True, timeout=10)


@pytest.mark.parametrize("arguments", [*(pod["containers"][0]["args"] for pod in PODS.values()), *(["run"],) * 2])
def test_what_is_started_is_a_command_that_the_worker_has(arguments: list[str]) -> None:
    assert [each["command"] for each in ON_AWS.values()] == [["run"]] * 2
    assert cli.commands[arguments[0]].make_context(arguments[0], arguments[1:]).params


STATE = "/var/lib/mfa-worker"
"""The folder of the image in which files lie for which no path is given."""


# --- settings ---------------------------------------------------------------------------------------------------------


WATCHED = {"metrics": {"port": 9464, "host": "0.0.0.0"}}
"""What a container is given so that a scraper outside of it can ask."""


@pytest.mark.parametrize(
    ("name", "forced"),
    [("aws", WATCHED), ("ecs", WATCHED), ("batch", {"run": {"grace": 10.0}})],
    ids=["aws", "ecs", "batch"],
)
def test_every_platform_on_aws_has_the_settings_of_the_example(
    name: str, forced: Mapping[str, Mapping[str, Any]], tmp_path: Path
) -> None:
    wanted = load(CONFIG / "aws.toml", [], {"MFA_WORKER_STATE": STATE}).model_dump()
    for section, values in forced.items():
        wanted[section].update(values)
    assert settings_of(name, tmp_path).model_dump() == wanted


def test_one_host_has_the_embedded_stores_on_its_volume(tmp_path: Path) -> None:
    settings = settings_of("one-host", tmp_path)
    assert settings.model_dump() == {**settings_of("docker", tmp_path).model_dump(), **WATCHED}
    assert (settings.queue.kind, settings.ledger.kind, settings.channel.kind) == ("sqlite", "sqlite", "file")
    mounted = {each["name"]: each["mountPath"] for each in PODS["one-host"]["containers"][0]["volumeMounts"]}
    assert (settings.queue.path.parent, settings.channel.path.parent) == (Path(STATE), Path(STATE))  # type: ignore[attr-defined]
    assert mounted["state"] == STATE
    assert f",target={mounted['state']}" in SHELL
    assert KUBERNETES["one-host"]["PersistentVolumeClaim"]["spec"]["accessModes"] == ["ReadWriteOncePod"]
    assert KUBERNETES["one-host"]["Job"]["spec"]["parallelism"] == 1


def test_the_example_for_aws_names_every_setting_that_counts_there(tmp_path: Path) -> None:
    spelt = tmp_path / "all.toml"
    spelt.write_text(re.sub(r"^# (\w+ = )", r"\1", (CONFIG / "aws.toml").read_text(), flags=re.MULTILINE))
    shown = explain(CONFIG / "aws.toml", [], {})
    given = {row.key: row.value for row in explain(spelt, [], {}) if row.source == str(spelt)}
    assert {row.key for row in shown} - set(given) == {"queue.path", "ledger.path", "channel.path"}
    assert {row.key: row.value for row in shown if row.key in given and row.value} == {
        row.key: given[row.key] for row in shown if row.key in given and row.value
    }


def test_no_service_of_the_cluster_can_pass_for_a_setting() -> None:
    assert [pod["enableServiceLinks"] for pod in PODS.values()] == [False, False]


# --- safe -------------------------------------------------------------------------------------------------------------

USER = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, flags=re.MULTILINE)[-1]


@pytest.mark.parametrize("name", PODS)
def test_a_pod_keeps_to_the_restricted_standard(name: str) -> None:
    pod, container = PODS[name], PODS[name]["containers"][0]
    context = pod["securityContext"]
    assert (context["runAsNonRoot"], str(context["runAsUser"]), str(context["runAsGroup"])) == (True, *USER)
    assert context["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod["automountServiceAccountToken"] is False
    assert not {"hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"} & pod.keys()
    assert {"medium": "Memory", "sizeLimit": "64Mi"} in [each.get("emptyDir") for each in pod["volumes"]]
    assert [each for each in pod["volumes"] if {"hostPath", "secret"} & each.keys()] == []
    assert {"memory"} == set(container["resources"]["limits"])
    enforced = KUBERNETES[name]["Namespace"]["metadata"]["labels"]
    assert enforced == {"pod-security.kubernetes.io/enforce": "restricted"}


@pytest.mark.parametrize("name", ON_AWS)
def test_a_container_on_aws_is_not_root_and_writes_nothing(name: str) -> None:
    container = ON_AWS[name]
    assert (container["user"], container["readonlyRootFilesystem"]) == (":".join(USER), True)
    assert not container.get("privileged")
    assert not container.get("mountPoints")
    assert TASKS_CONTAINER["linuxParameters"]["capabilities"] == {"drop": ["ALL"]}


def test_the_script_locks_the_container_down() -> None:
    arguments = SHELL.split()
    for flag in ("--rm", "--read-only", f"--user {':'.join(USER)}", "--cap-drop ALL", "--log-driver none"):
        assert f" {flag} " in " ".join(arguments)
    assert "--security-opt no-new-privileges" in SHELL
    (memory,), (swap,) = (re.findall(rf"--{name} (\w+)", SHELL) for name in ("memory", "memory-swap"))
    assert memory == swap
    assert "--ulimit core=0" in SHELL
    assert "--tmpfs /tmp:rw,noexec,nosuid,nodev,size=64m" in SHELL
    assert "seccomp=unconfined" not in SHELL


SECRETS = re.compile(
    r"AKIA|ASIA|AGE-SECRET-KEY-1|eyJ[\w-]|-----BEGIN|(?i:(?:access_key|session_token|password|passwd)['\"]? *[=:])"
    "|[A-Za-z0-9+/]{40}"
)


@pytest.mark.parametrize("path", MANIFESTS, ids=lambda path: str(path.relative_to(CONFIG)))
def test_nothing_that_looks_like_a_secret_or_an_account_is_in_a_manifest(path: Path) -> None:
    text = path.read_text()
    assert SECRETS.findall(text) == []
    assert set(re.findall(r"\b\d{12}\b", text)) <= {"123456789012"}
    assert "kind: Secret" not in text


@pytest.mark.parametrize("name", PODS)
def test_what_asks_a_pod_how_it_is_asks_where_it_listens_and_gives_it_time(name: str, tmp_path: Path) -> None:
    settings, container = settings_of(name, tmp_path), PODS[name]["containers"][0]
    port = settings.metrics.port
    assert container["ports"] == [{"name": "metrics", "containerPort": port}]
    paths = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {each["port"] for each in paths.values()} == {"metrics"}
    assert {kind: each["path"] for kind, each in paths.items()} == {
        "startup": "/healthz",
        "liveness": "/healthz",
        "readiness": "/readyz",
    }
    liveness = container["livenessProbe"]
    assert liveness["failureThreshold"] * liveness["periodSeconds"] >= settings.run.watchdog
    assert liveness["timeoutSeconds"] >= 10
    annotations = KUBERNETES[name]["Job"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations == {"prometheus.io/scrape": "true", "prometheus.io/port": str(port)}


def test_the_ports_that_are_opened_are_those_of_the_metrics_alone(tmp_path: Path) -> None:
    (policy,) = resources_from_file(str(CONFIG / "kubernetes/network-policy.yaml"))
    port = settings_of("aws", tmp_path).metrics.port
    assert [each["ports"] for each in policy["spec"]["ingress"]] == [[{"protocol": "TCP", "port": port}]]
    assert [each["containerPort"] for each in TASKS_CONTAINER["portMappings"]] == [
        settings_of("ecs", tmp_path).metrics.port
    ]


def test_every_manifest_names_the_same_image_of_this_version() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {each["image"] for each in [*(pod["containers"][0] for pod in PODS.values()), *ON_AWS.values()]}
    assert images == {f"123456789012.dkr.ecr.eu-central-1.amazonaws.com/mfa-worker:{version}"}
    assert "${IMAGE:-mfa-worker}" in SHELL


def test_the_schedule_starts_what_a_person_would() -> None:
    by_hand, target = read_json("ecs/run-task.json"), read_json("ecs/schedule.json")["Target"]
    timed = target["EcsParameters"]
    assert target["Arn"].endswith(f":cluster/{by_hand['cluster']}")
    assert timed["TaskDefinitionArn"].endswith(f":task-definition/{by_hand['taskDefinition']}")
    assert (timed["TaskCount"], timed["LaunchType"]) == (by_hand["count"], by_hand["launchType"])
    networks = timed["NetworkConfiguration"]["awsvpcConfiguration"], by_hand["networkConfiguration"]
    assert {key.lower(): value for key, value in networks[0].items()} == {
        key.lower(): value for key, value in networks[1]["awsvpcConfiguration"].items()
    }
    assert by_hand["taskDefinition"] == TASK["family"]
