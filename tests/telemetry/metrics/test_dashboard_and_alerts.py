"""The dashboard and the alerts in ``config/`` ask for metrics and labels that a worker really shows."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from prometheus_client import generate_latest

from tests.project.test_documents import parse
from tests.support.metrics import samples
from tests.telemetry.metrics.test_collector import watched
from worker.cli import cli
from worker.telemetry.metrics.collector import registry

CONFIG = Path(__file__).parents[3] / "config"
RULES = CONFIG / "prometheus" / "alerts.yml"
DASHBOARD = json.loads((CONFIG / "grafana" / "mfa-worker.json").read_text())
ALERTS = [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]

TARGET_LABELS = {"job", "instance"}
"""What Prometheus adds to every metric."""
FREE = {"le", "version", "python"}
"""Labels whose values are not words of the worker."""
SELECTOR = re.compile(r"\b(mfa_worker_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r'(\w+) *(=~|!~|!=|=) *"([^"]*)"')
BY = re.compile(r"\b(?:by|on|without) *\(([^)]*)\)")
LEGEND = re.compile(r"\{\{ *(?:\$labels\.)?(\w+) *\}\}")


def shown() -> Mapping[str, Mapping[str, set[str]]]:
    """Every series that a worker shows: name → label → values."""
    found: dict[str, dict[str, set[str]]] = {}
    for name, labels in samples(generate_latest(registry(watched())).decode()):
        values = found.setdefault(name, {})
        for label, value in labels:
            values.setdefault(label, set()).add(value)
    return found


SHOWN = shown()


def problems(expression: str, *texts: str) -> Iterator[str]:
    """What an expression, and the texts that show its labels, ask for and no worker shows."""
    names = SELECTOR.findall(expression)
    labels = set(TARGET_LABELS)
    for name, matchers in names:
        if name not in SHOWN:
            yield f"there is no {name}"
            continue
        labels |= SHOWN[name].keys()
        for label, operator, text in MATCHER.findall(matchers):
            if label in TARGET_LABELS:
                continue
            if label not in SHOWN[name]:
                yield f"{name} has no label {label}"
            elif label not in FREE and text:
                known = SHOWN[name][label]
                words = text.split("|") if "~" in operator else [text]
                yield from (
                    f"{label} is never {word}" for word in words if not any(map(re.compile(word).fullmatch, known))
                )
    grouped = {label.strip() for group in BY.findall(expression) for label in group.split(",")}
    yield from (f"there is no label {label} to group by" for label in grouped - labels)
    yield from (f"no label {label} to show" for text in texts for label in set(LEGEND.findall(text)) - labels)


def panels() -> Iterator[dict[str, Any]]:
    yield from (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def test_every_panel_asks_for_what_there_is() -> None:
    asked = [(f"{panel['title']} {each['refId']}", each) for panel in panels() for each in panel["targets"]]

    assert len(asked) > 20
    found = {title: list(problems(each["expr"], each["legendFormat"])) for title, each in asked}
    assert {title: wrong for title, wrong in found.items() if wrong} == {}
    assert all(SELECTOR.search(each["expr"]) for _, each in asked)


def test_the_dashboard_asks_for_one_rollout_of_any_prometheus_and_can_be_imported() -> None:
    assert {each["name"] for each in DASHBOARD["templating"]["list"]} == {"datasource", "job"}
    for panel in panels():
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert panel["description"].endswith(".")
        for each in panel["targets"]:
            assert each["expr"].count("mfa_worker_") == each["expr"].count('job=~"$job"'), panel["title"]
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)
    assert DASHBOARD["uid"] == "mfa-worker"
    assert "id" not in DASHBOARD


def test_no_panel_covers_another() -> None:
    cells: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        area = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & area, panel["title"]
        cells |= area


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_every_alert_asks_for_what_there_is_and_names_the_next_command(alert: dict[str, Any]) -> None:
    notes = alert["annotations"]
    assert list(problems(alert["expr"], *notes.values())) == []
    assert alert["labels"]["severity"] in {"info", "warning", "critical"}
    assert set(notes) == {"summary", "description", "next_step"}
    calls = re.findall(r"mfa-worker ((?:[a-z]+)(?: --[\w.-]+(?: [\w.=%]+)?)*)", notes["next_step"])
    assert calls
    for call in calls:
        parse(cli, shlex.split(call))


def test_the_page_names_every_alert_and_asks_for_what_there_is() -> None:
    page = (CONFIG.parent / "docs" / "metrics.md").read_text()
    named = re.findall(r"^\| `(MfaWorker\w+)` \((\w+)\) \|", page, flags=re.MULTILINE)
    assert named == [(alert["alert"], alert["labels"]["severity"]) for alert in ALERTS]
    _, _, questions = page.partition("## Questions")
    asked = [code.replace("\\|", "|") for code in re.findall(r"\| `(.+)` \|$", questions, flags=re.MULTILINE)]
    assert len(asked) > 5
    assert {query: list(problems(query)) for query in asked if list(problems(query))} == {}


def test_what_does_not_exist_would_be_noticed() -> None:
    assert list(problems("rate(mfa_worker_users_total[5m])")) == ["there is no mfa_worker_users_total"]
    assert list(problems('mfa_worker_waiting{queue="x"}')) == ["mfa_worker_waiting has no label queue"]
    assert list(problems('mfa_worker_waiting{dependency="disk"}')) == ["dependency is never disk"]
    assert list(problems('mfa_worker_rollout_users{state=~"failed|gone"}')) == ["state is never gone"]
    assert list(problems("sum by (user) (mfa_worker_waiting)")) == ["there is no label user to group by"]
    assert list(problems("mfa_worker_waiting", "{{reason}}")) == ["no label reason to show"]


needs_promtool = pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed here")


@needs_promtool
def test_promtool_takes_the_alerts() -> None:
    subprocess.run(["promtool", "check", "rules", str(RULES)], check=True, capture_output=True, timeout=30)


@needs_promtool
def test_each_alert_fires_on_its_own_bad_day_and_none_on_a_good_one() -> None:
    unit_tests = Path(__file__).with_name("alerts_test.yml")
    assert {alert["alert"] for alert in ALERTS} == set(re.findall(r"MfaWorker\w+", unit_tests.read_text()))
    subprocess.run(["promtool", "test", "rules", str(unit_tests)], check=True, capture_output=True, timeout=30)


@needs_promtool
def test_promtool_finds_nothing_to_say_about_the_metrics() -> None:
    page = generate_latest(registry(watched()))
    found = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, check=True, timeout=30)
    assert found.stderr == b""
