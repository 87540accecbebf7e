"""No parser of foreign bytes is without a target: whatever turns text or bytes into something else is listed here.

A file of the worker that calls one of ``READS`` is in ``TARGETS_OF``, with the targets that reach it, or in ``OWN``,
with what it reads, which nobody else has written.
"""

from __future__ import annotations

import ast
from pathlib import Path

from tests.fuzzing.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]

READS = {
    *("loads", "load_text", "from_json", "validate_json", "model_validate_json", "parse_object", "parsed"),
    *("fromisoformat", "strptime", "parsedate_to_datetime", "fromhex", "from_bytes", "unpack", "unpack_from"),
    *("b64decode", "urlsafe_b64decode", "b32decode", "decode", "decompress", "decrypt", "from_str"),
    *("urlsplit", "urlparse", "parse_qs"),
}
"""``int`` and ``float`` are left out: nearly every call of them is for a number of this program's own."""

TARGETS_OF = {
    "worker/adapters/channels/s3/ending.py": "object_keys",
    "worker/core/recipients.py": "recipient typed_in",
    "worker/sealing/recipients.py": "recipient",
    "worker/adapters/aws/errors.py": "aws_errors",
    "worker/adapters/channels/s3/keys.py": "object_keys",
    "worker/adapters/cognito/activation_answers.py": "activation_answers",
    "worker/adapters/ledgers/dynamodb/counters.py": "dynamodb_counts",
    "worker/adapters/ledgers/dynamodb/figures.py": "dynamodb_figures",
    "worker/adapters/ledgers/dynamodb/pace.py": "dynamodb_pace",
    "worker/cli/completion.py": "completion",
    "worker/core/key_uri.py": "key_uri",
    "worker/settings/sources.py": "settings_file environment",
    "config/sign-in/triggers.py": "trigger",
    "worker/adapters/aws/direct.py": "json_answers dynamodb_row",
    "worker/adapters/aws/endpoints.py": "values",
    "worker/adapters/aws/naming.py": "object_keys",
    "worker/adapters/aws/queue.py": "queue_urls",
    "worker/adapters/aws/transport.py": "json_answers",
    "worker/adapters/channels/file/channel.py": "sealed_line",
    "worker/adapters/channels/s3/source.py": "object_keys age_file",
    "worker/adapters/channels/secretsmanager/source.py": "secret_value",
    "worker/adapters/cognito/answers.py": "answers dates codes",
    "worker/adapters/cognito/client.py": "values",
    "worker/adapters/cognito/sign_in_answers.py": "sign_in_answers",
    "worker/adapters/ledgers/dynamodb/rows.py": "dynamodb_row",
    "worker/adapters/ledgers/sqlite/ledger.py": "sqlite_row",
    "worker/adapters/ledgers/sqlite/mark.py": "mark",
    "worker/adapters/queues/sqs/copies.py": "sqs_body",
    "worker/adapters/queues/sqs/fitness.py": "sqs_attributes",
    "worker/adapters/sealed_lines.py": "sealed_line",
    "worker/adapters/sqlite/matching_log.py": "log_beside",
    "worker/app/older.py": "recovered_line",
    "worker/cli/first.py": "first_steps",
    "worker/core/age_format.py": "age_file sealed_file",
    "worker/core/figures.py": "minute dynamodb_figures",
    "worker/core/history.py": "events",
    "worker/core/record.py": "sealed_line sealed_record",
    "worker/core/settled.py": "settled_ids",
    "worker/core/toml.py": "settings_file first_steps letter_template",
    "worker/handout/chosen.py": "options",
    "worker/handout/letters.py": "opened_record",
    "worker/handout/names.py": "opened_record",
    "worker/handout/template.py": "letter_template",
    "worker/rehearsal/fake_cognito/faults.py": "options",
    "worker/requests/envelopes.py": "envelope request",
    "worker/requests/lines.py": "request_lines",
    "worker/requests/message.py": "request access_token",
    "worker/requests/named_users.py": "named_users",
    "worker/requests/refused.py": "request_lines",
    "worker/requests/ticket.py": "ticket ticket_key",
    "worker/requests/times.py": "times",
    "worker/requests/usernames.py": "usernames",
    "worker/sealing/age.py": "sealed_file typed_in",
    "worker/sealing/identities.py": "identity_file",
    "worker/sealing/records.py": "sealed_file sealed_record",
    "worker/sealing/own.py": "own_identity",
    "worker/settings/queue_urls.py": "queue_urls values sqs_attributes",
    "worker/settings/text_file.py": "settings_file secret_file",
    "worker/settings/types.py": "values environment",
    "worker/telemetry/report.py": "report_file",
}

OWN = {
    "worker/adapters/confirmed_lines.py": "the note on what it confirmed, beside the file that it wrote",
    "worker/adapters/aws/pool_ending.py": "the pool's description, in a command that a person watches",
    "worker/app/ending/decommission.py": "a note that it made in the ledger",
    "worker/cli/setup.py": "a setting's value that was read (values) and written as JSON",
    "worker/sealing/in_children.py": "the answer of the process that it started",
    "worker/sealing/child.py": "the question of the process that started it",
    "worker/adapters/sqlite/reading.py": "text of a row, which sqlite_row then reads",
    "worker/app/repair/recover.py": "a name that it shows",
    "worker/telemetry/metrics/on_host.py": "the answer of a process of its own user",
    "config/sign-in/attach.py": "what the AWS command line printed; a tool that a person watches",
    "worker/adapters/aws/session.py": "an address of the settings, which were read (values)",
    "worker/adapters/channels/s3/channel.py": "base64 that it makes",
    "worker/adapters/channels/s3/checks.py": "the bucket's policy, in a check that says what it could not do",
    "worker/adapters/channels/secretsmanager/channel.py": "labels of its own that are digits of ASCII",
    "worker/adapters/channels/sqs/channel.py": "numbers of SQS's own attributes",
    "worker/adapters/cognito/sign_in.py": "base64 that it makes",
    "worker/adapters/queues/sqs/producer.py": "bytes that the parser of requests wrote",
    "worker/app/observing.py": "a note that the ledger made of random bytes",
    "worker/core/activation.py": "what the worker sealed to itself",
    "worker/core/shell.py": "one byte of ASCII",
    "worker/handout/drawing.py": "the question of the process that started it",
    "worker/handout/drawn.py": "the answer of the process that it started",
    "worker/handout/hand_out.py": "the answer of the process that it started",
    "worker/handout/table.py": "a file that it wrote itself, and that has no name",
    "worker/report/page.py": "its own clock, base64 that it makes",
    "worker/setup/checks/aws.py": "an address of the settings, which were read (values)",
    "worker/telemetry/logs.py": "text that it escaped itself",
    "worker/telemetry/otel/export.py": "an address of the settings, which were read (values)",
    "worker/telemetry/panel.py": "text that it escaped itself",
}

REHEARSAL = "worker/rehearsal/"
"""The stand-in for Cognito and what asks it: both ends are this program's own, on loopback."""


def reads(path: Path) -> bool:
    """Whether this file calls one of ``READS`` with something that it does not know beforehand."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name == "decode" or (name in READS and node.args and not isinstance(node.args[0], ast.Constant)):
                return True
    return False


def test_every_file_that_reads_text_or_bytes_is_listed() -> None:
    files = sorted([*ROOT.glob("worker/**/*.py"), *ROOT.glob("config/**/*.py")])
    found = {str(path.relative_to(ROOT)) for path in files if reads(path)}
    mine = {name for name in found if not name.startswith(REHEARSAL)} | {"worker/rehearsal/fake_cognito/faults.py"}
    assert mine <= TARGETS_OF.keys() | OWN.keys()
    assert OWN.keys() <= mine
    assert all((ROOT / name).is_file() for name in TARGETS_OF)


def test_every_target_of_the_list_exists_and_every_target_is_in_the_list() -> None:
    named = {name for names in TARGETS_OF.values() for name in names.split()}
    assert named == TARGETS.keys()
