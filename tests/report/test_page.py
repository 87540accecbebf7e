"""What stands on the page, and what never does."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections import Counter
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest

from tests.support.report_samples import SAMPLES, finished, many_reasons, named
from worker.core.model import Counts, Listed, Reason, State
from worker.core.ports import Backlog
from worker.report.facts import Left
from worker.report.page import render
from worker.report.steps import steps

VOID = {"meta", "link"}


class Reader(HTMLParser):
    """Notes elements that are not closed in order, ids, and what leads elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.ids: Counter[str] = Counter()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids.update(value or "" for name, value in attrs if name == "id")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.handle_endtag(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(f"{tag} at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader


@pytest.mark.parametrize("name", SAMPLES)
def test_it_is_well_formed_and_leads_nowhere(name: str) -> None:
    page = render(SAMPLES[name]())

    reader = read(page)
    assert (reader.wrong, reader.open) == ([], [])
    assert [each for each, number in reader.ids.items() if number > 1] == []
    refers = [value.split() for key, value in reader.attributes if key in ("aria-labelledby", "aria-describedby")]
    assert {each for ids in refers for each in ids} <= set(reader.ids)
    assert {value for key, value in reader.attributes if key in ("href", "src", "action")} == {"#main", "data:,"}
    assert not [key for key, _ in reader.attributes if key == "style" or key.startswith("on")]
    assert "<script" not in page


def test_its_policy_allows_its_own_style_and_nothing_else() -> None:
    page = render(finished())

    style = page.partition("<style>")[2].partition("</style>")[0]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:;")
    assert "url(" not in style
    assert "@import" not in style


def test_names_and_details_cannot_become_markup() -> None:
    page = render(named())

    assert "<script" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "\\u202egnp.exe" in page
    assert "\u202e" not in page


def test_what_looks_like_a_credential_in_a_detail_is_masked() -> None:
    token = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln"
    counts = Counts({State.FAILED: 1}, {Reason.REFUSED: 1}, codes={Reason.REFUSED: {token: 1}})
    left = [Left(State.FAILED, [Listed("ana", Reason.REFUSED, 1.7e9, token)], 1)]

    page = render(replace(finished(), counts=counts, left=left))

    assert "ana" in page
    assert token not in page


@pytest.mark.parametrize("detail", ["ana", "ana@example.org", "left the company", "Ana Müller, 5551234"])
def test_what_somebody_wrote_is_shown_only_where_users_may_be_named(detail: str) -> None:
    counts = Counts({State.SKIPPED: 1}, {Reason.DISMISSED: 1}, codes={Reason.DISMISSED: {detail: 1}})

    assert detail not in read(render(replace(finished(), counts=counts))).text
    assert detail in read(render(replace(finished(), counts=counts, left=[]))).text


@pytest.mark.parametrize("reason", Reason)
def test_each_reason_has_its_cause_and_its_cure(reason: Reason) -> None:
    facts = replace(SAMPLES["empty"](), counts=Counts({State.FAILED: 1}, {reason: 1}))

    text = read(render(facts)).text
    assert reason in text
    assert "later version" not in text


def test_a_reason_of_a_later_version_is_shown_too() -> None:
    facts = replace(SAMPLES["empty"](), counts=Counts({State.FAILED: 1}, {"moon_phase": 1}))

    assert "moon_phase" in read(render(facts)).text


def test_users_beyond_those_that_are_named_are_counted_with_the_command_that_lists_them() -> None:
    text = read(render(named())).text

    assert "416 more are not listed here" in text
    assert "mfa-worker -c /srv/rollout/mfa-worker.toml export --state needs_session" in text


def test_of_users_without_figures_the_page_says_how_many() -> None:
    facts = SAMPLES["fourteen_hours"]()
    known = sum(minute.settled.total() for minute in facts.minutes)

    said = f"hold {known:,} outcomes, and the ledger {facts.counts.accepted:,} users with one"
    assert said in read(render(facts)).text
    assert "and the ledger" not in read(render(finished())).text


def test_the_time_that_the_rest_takes_is_told_by_the_last_minutes_and_only_while_somebody_works() -> None:
    facts = SAMPLES["trouble"]()
    speed = sum(each.settled.total() for each in facts.minutes[-3:]) / 180

    soon = replace(facts, made_at=60.0 * (facts.minutes[-1].minute + 1), minutes=facts.minutes[-3:])
    assert (
        f"At the pace of the last minutes, {speed:.3g}/s, what waits takes about 7\u00a0min more."
        in read(render(soon)).text
    )
    assert "At the pace" not in read(render(replace(soon, made_at=soon.made_at + 120))).text
    assert "At the pace" not in read(render(replace(soon, backlog=Backlog(0)))).text


def test_who_is_under_way_for_long_is_named_only_where_users_may_be() -> None:
    facts = SAMPLES["trouble"]()

    assert "user-0" not in read(render(facts)).text
    assert "user-0" in read(render(replace(facts, left=[]))).text
    assert "for more than a few seconds" in read(render(replace(facts, under_way=[]))).text


def test_the_commands_can_be_pasted_whatever_the_settings_file_is_called() -> None:
    facts = replace(many_reasons(), command=("mfa-worker", "-c", "/srv/it's; rm -rf $HOME & <b>.toml"))

    found = [line for step in steps(facts) for line in step.commands]
    assert all(shlex.split(line.split(" > ")[0])[:3] == list(facts.command) for line in found)
    page = render(facts)
    assert set(found) <= {unescape(each) for each in re.findall(r"<pre><code>(.*?)</code></pre>", page)}


def test_where_everybody_is_done_the_secrets_are_handed_out() -> None:
    [step] = steps(replace(finished(), counts=Counts({State.DELIVERED: 3, State.SKIPPED: 1}, {})))
    assert step.what.startswith("Hand the secrets out")
    assert step.commands[0].endswith("open -i identity.key --letters letters.pdf")

    for counts in (Counts({State.SKIPPED: 3}, {}), Counts({State.DELIVERED: 3, State.SEALED: 1}, {})):
        assert not any("Hand" in each.what for each in steps(replace(finished(), counts=counts)))
