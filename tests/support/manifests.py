"""The manifests in ``config/``, read once, and the settings that each platform's container will find."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from kubernetes_validate.utils import resources_from_file  # type: ignore[import-untyped]

from worker.settings import Settings, load

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config"
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SCRIPT = CONFIG / "docker/run.sh"


def resources(name: str) -> dict[str, dict[str, Any]]:
    """The objects of a file for Kubernetes, by kind."""
    return {each["kind"]: each for each in resources_from_file(str(CONFIG / "kubernetes" / f"{name}.yaml"))}


def read_json(name: str) -> dict[str, Any]:
    """A document for AWS."""
    found: dict[str, Any] = json.loads((CONFIG / name).read_text())
    return found


KUBERNETES = {name: resources(name) for name in ("aws", "one-host")}
PODS = {name: each["Job"]["spec"]["template"]["spec"] for name, each in KUBERNETES.items()}
TASK = read_json("ecs/task-definition.json")
TASKS_CONTAINER: dict[str, Any] = TASK["containerDefinitions"][0]
JOB_DEFINITION = read_json("batch/job-definition.json")
JOBS_CONTAINER: dict[str, Any] = JOB_DEFINITION["containerProperties"]
ON_AWS = {"ecs": TASKS_CONTAINER, "batch": JOBS_CONTAINER}
SHELL = re.sub(r"(^\s*#.*\n)|(\\\n)", " ", SCRIPT.read_text(), flags=re.MULTILINE)
"""The script without its comments, each command on one line."""


def settings_of(name: str, tmp_path: Path) -> Settings:
    """The settings that a platform's container will find, as the worker reads them."""
    image = dict(re.findall(r"(MFA_WORKER_STATE)=(\S+)", DOCKERFILE))
    if name in PODS:
        container, volume = PODS[name]["containers"][0], tmp_path / "mfa-worker.toml"
        environ = {**image, **{each["name"]: each["value"] for each in container["env"]}}
        mounted = next(each for each in container["volumeMounts"] if each["name"] == "settings")
        assert environ["MFA_WORKER_CONFIG"] == f"{mounted['mountPath']}/{volume.name}"
        assert mounted["readOnly"]
        volume.write_text(KUBERNETES[name]["ConfigMap"]["data"][volume.name])
        return load(None, [], {**environ, "MFA_WORKER_CONFIG": str(volume)})
    if name in ON_AWS:
        given = {**image, **{each["name"]: each["value"] for each in ON_AWS[name]["environment"]}}
        return load(None, [], {**given, **{each["name"]: "[]" for each in ON_AWS[name]["secrets"]}})
    return load(CONFIG / "mfa-worker.toml", [], image)
