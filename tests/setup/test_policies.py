"""The IAM policies allow what the code calls, and nothing else: read from the sources, so that no call is forgotten.

A call of the SDK is found by its name, and whoever reaches it by following names from a role's entry points: methods of
``self``, of what a class keeps in its attributes, and functions of the same module.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest
from botocore import xform_name
from botocore.session import Session

from worker.adapters import channels
from worker.adapters.cognito import activation_answers, answers, sign_in_answers
from worker.adapters.cognito.answers import Operation
from worker.settings import load
from worker.setup.policies import Role, document, parts_of_the_pool, statements

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config" / "iam"
SERVICES = ("sqs", "dynamodb", "s3", "secretsmanager", "kms", "sts", "cognito-idp", "service-quotas", "cloudformation")

IAM_ACTIONS = {
    "sqs:SendMessageBatch": ("sqs:SendMessage",),
    "sqs:DeleteMessageBatch": ("sqs:DeleteMessage",),
    "sqs:ChangeMessageVisibilityBatch": ("sqs:ChangeMessageVisibility",),
    "dynamodb:TransactWriteItems": ("dynamodb:PutItem", "dynamodb:UpdateItem"),
    "s3:HeadBucket": ("s3:ListBucket",),
    "s3:ListObjectsV2": ("s3:ListBucket",),
    "s3:ListObjectVersions": ("s3:ListBucketVersions",),
    "s3:DeleteObjects": ("s3:DeleteObject", "s3:DeleteObjectVersion"),
    "s3:GetBucketEncryption": ("s3:GetEncryptionConfiguration",),
    "s3:PutBucketEncryption": ("s3:PutEncryptionConfiguration",),
    "s3:GetPublicAccessBlock": ("s3:GetBucketPublicAccessBlock",),
    "s3:PutPublicAccessBlock": ("s3:PutBucketPublicAccessBlock",),
    "s3:PutBucketLifecycleConfiguration": ("s3:PutLifecycleConfiguration",),
    "secretsmanager:BatchGetSecretValue": ("secretsmanager:BatchGetSecretValue", "secretsmanager:GetSecretValue"),
    "sts:GetCallerIdentity": (),
    "cognito-idp:AssociateSoftwareToken": (),
    "service-quotas:ListServiceQuotas": ("servicequotas:ListServiceQuotas",),
}
"""Where an action of IAM is not called as the operation ("Actions, resources, and condition keys" of each service).
Transactions here put and update. Who this process is needs no permission; the one call that matters is not signed."""

UNSEEN = {
    Role.PUSHER: set[str](),
    Role.WORKER: {"kms:Decrypt", "kms:GenerateDataKey"},
    Role.OPENER: {"kms:Decrypt"},
    Role.OPERATOR: set[str](),
    Role.DECOMMISSIONER: set[str](),
}
"""What services do with a key in the caller's name: SQS and S3 encrypt with a data key; opening decrypts."""

QUEUE, LEDGER = "worker/adapters/queues/sqs/", "worker/adapters/ledgers/dynamodb/"
ANY_QUEUE, KEY = "worker/adapters/aws/queue", "worker/adapters/aws/kms"


def of_every_channel(module: str) -> list[tuple[str, str]]:
    """All of that module, in the folder of every channel that has one."""
    folders = [f"worker/adapters/channels/{kind}/{module}" for kind in channels.kinds()]
    return [(folder, "*") for folder in folders if (ROOT / f"{folder}.py").exists()]


ENTRIES: dict[Role, list[tuple[str, str]]] = {
    Role.PUSHER: [
        *((QUEUE, f"SqsQueue.{name}") for name in ("open", "push", "put_aside", "counted")),
        (QUEUE, "count"),
        *((LEDGER, f"DynamoLedger.{name}") for name in ("look", "open", "count", "read", "read_pace", "counts")),
        (LEDGER, "Counters.close"),
    ],
    Role.WORKER: [
        (QUEUE, "*"),
        (LEDGER, "*"),
        *of_every_channel("channel"),
    ],
    Role.OPENER: [*of_every_channel("source"), *((LEDGER, f"DynamoRecorded.{name}") for name in ("check", "read"))],
    Role.OPERATOR: [
        ("worker/setup/resources", "*"),
        ("worker/setup/init", "*"),
        *((ANY_QUEUE, name) for name in ("make", "arn_of", "attributes_of")),
        *of_every_channel("resources"),
        *((QUEUE, f"Redrive.{name}") for name in ("run", "_empty", "_moved")),
        *((QUEUE, name) for name in ("attributes_of", "count", "receive", "release")),
    ],
    Role.DECOMMISSIONER: [
        (QUEUE, "attributes_of"),
        *(
            (f"worker/adapters/aws/{module}", "*")
            for module in ("queue_ending", "table_ending", "pool_ending", "stacks")
        ),
        *of_every_channel("ending"),
        *(
            (LEDGER, f"DynamoLedger.{name}")
            for name in ("look", "open", "counts", "put", "read", "every_row", "is_used", "refusal", "note")
        ),
    ],
}
"""What each role runs: modules (a package, or how their names begin) and class with method; ``*`` is all.

A pusher has nothing to acknowledge, to give back or to put, so of ``backlog`` and ``close`` only this part is its own.
"""


@cache
def operations() -> dict[str, str]:
    """The SDK's method → ``service:Operation``. Names that two services share are not used here."""
    session, found = Session(), dict[str, str]()
    for service in SERVICES:
        for operation in session.get_service_model(service).operation_names:
            found.setdefault(xform_name(operation), f"{service}:{operation}")
    return found


class Family:
    """The functions of some modules that belong together, what each one calls of the SDK, and whom it names."""

    def __init__(self, prefix: str) -> None:
        self.functions: dict[str, ast.AST] = {}
        self.kept: dict[str, dict[str, ast.expr]] = {}
        folder, _, beginning = prefix.rpartition("/")
        paths = sorted([*(ROOT / folder).glob(f"{beginning}*.py"), *(ROOT / folder).glob(f"{beginning}*/*.py")])
        assert paths, prefix
        for path in paths:
            for node in ast.parse(path.read_text("utf-8")).body:
                if isinstance(node, ast.ClassDef):
                    self._add_class(node)
                elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    self.functions[node.name] = node

    def _add_class(self, node: ast.ClassDef) -> None:
        self.kept[node.name] = {}
        for method in node.body:
            if not isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            self.functions[f"{node.name}.{method.name}"] = method
            for each in ast.walk(method):
                target, value = _assigned(each)
                if target is not None and value is not None and method.name == "__init__":
                    self.kept[node.name][target] = value

    def calls(self, entries: Iterable[str]) -> set[str]:
        """The operations that are reached from these functions (``*``: from any)."""
        found, seen = set[str](), set[str]()
        left = [name for entry in entries for name in (self.functions if entry == "*" else [entry])]
        while left:
            name = left.pop()
            if name in seen:
                continue
            seen.add(name)
            assert name in self.functions, f"{name} is gone: correct ENTRIES"
            owner = name.partition(".")[0] if "." in name else ""
            ops, names = self._in(self.functions[name], owner)
            found |= ops
            left += names
        return found

    def _in(self, node: ast.AST, owner: str) -> tuple[set[str], list[str]]:
        ops, names = set[str](), list[str]()
        for each in ast.walk(node):
            if isinstance(each, ast.Name) and each.id in self.functions:
                names.append(each.id)
            if isinstance(each, ast.Constant) and each.value in operations():  # the name of a paginator
                ops.add(operations()[str(each.value)])
            if not isinstance(each, ast.Attribute):
                continue
            path = _path(each)
            if path[0] == "self" and len(path) == 2 and f"{owner}.{path[1]}" in self.functions:
                names.append(f"{owner}.{path[1]}")
            elif path[0] == "self" and len(path) == 3 and path[1] in self.kept.get(owner, {}):
                names += self._through(owner, path[1], path[2])
            if each.attr in operations() and path[-2:-1] not in (["self"], ["resources"]):
                ops.add(operations()[each.attr])
        return ops, names

    def _through(self, owner: str, attribute: str, method: str) -> Iterator[str]:
        """What a method of something kept leads to: the method, and whatever that thing was given to call."""
        made = self.kept[owner][attribute]
        for each in ast.walk(made):
            if isinstance(each, ast.Name) and f"{each.id}.{method}" in self.functions:
                yield f"{each.id}.{method}"
            if isinstance(each, ast.Attribute) and _path(each) == ["self", each.attr]:
                yield from {f"{owner}.{each.attr}"} & self.functions.keys()


def _path(node: ast.expr) -> list[str]:
    path: list[str] = []
    while isinstance(node, ast.Attribute):
        path.insert(0, node.attr)
        node = node.value
    return [node.id if isinstance(node, ast.Name) else "", *path]


def _assigned(node: ast.AST) -> tuple[str | None, ast.expr | None]:
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute):
        return node.targets[0].attr, node.value
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute):
        return node.target.attr, node.value
    return None, None


def needed(entries: Iterable[tuple[str, str]]) -> set[str]:
    """The IAM actions of what is reached."""
    by_family: dict[str, list[str]] = {}
    for family, name in entries:
        by_family.setdefault(family, []).append(name)
    called = {call for family, names in by_family.items() for call in Family(family).calls(names)}
    return {action for call in called for action in IAM_ACTIONS.get(call, (call,))}


def allowed(role: Role) -> set[str]:
    return {action for each in statements(role) for action in each.actions}


CHECKED = needed(
    [
        ("worker/setup/checks/", "*"),
        *((ANY_QUEUE, name) for name in ("attributes_of", "sending")),
        (KEY, "look_at_key"),
        *of_every_channel("checks"),
    ]
)


@pytest.mark.parametrize("role", [Role.PUSHER, Role.OPENER, Role.DECOMMISSIONER])
def test_a_role_may_do_what_its_commands_call_and_nothing_else(role: Role) -> None:
    assert allowed(role) == needed(ENTRIES[role]) | UNSEEN[role]


def test_the_worker_may_do_what_run_calls_and_what_check_tries_of_it() -> None:
    run = needed(ENTRIES[Role.WORKER]) | UNSEEN[Role.WORKER]

    assert run <= allowed(Role.WORKER)
    assert allowed(Role.WORKER) - run <= CHECKED


def test_the_operator_may_do_what_init_calls_and_what_check_asks_beyond_the_worker() -> None:
    wanted = needed(ENTRIES[Role.OPERATOR]) | (CHECKED - allowed(Role.WORKER))

    assert allowed(Role.OPERATOR) == wanted


def test_the_worker_may_make_the_signed_calls_to_cognito_each_only_where_it_is_configured() -> None:
    operations = [each for module in (sign_in_answers, activation_answers, answers) for each in vars(module).values()]
    signed = {f"cognito-idp:{each.name}" for each in operations if isinstance(each, Operation) and each.is_signed}
    assert {action for action in allowed(Role.WORKER) if action.startswith("cognito-idp:")} == signed

    for more, wanted in {
        (): set[str](),
        ("sign_in.flow=custom_auth", "activation.mode=verify"): set(),
        ("sign_in.flow=user_password",): set(),
        ("sign_in.flow=admin_user_password",): {"cognito-idp:AdminInitiateAuth"},
        ("activation.mode=prefer",): {"cognito-idp:AdminSetUserMFAPreference"},
        ("sign_in.flow=admin_user_password", "activation.mode=prefer"): signed,
    }.items():
        client = ["sign_in.client_id=abc"] if any("flow" in each for each in more) else []
        settings = load(None, ["cognito.user_pool_id=eu-central-1_AbCdEfGhI", *client, *more], {})
        policy = document(Role.WORKER, parts_of_the_pool(settings))
        assert {action for each in policy["Statement"] for action in each["Action"]} == wanted


def test_nothing_is_allowed_on_everything_but_what_has_no_resource() -> None:
    everywhere = {a for role in Role for each in statements(role) if "*" in each.resources for a in each.actions}

    assert everywhere <= {"servicequotas:ListServiceQuotas", "secretsmanager:ListSecrets"}
    assert not [action for role in Role for action in allowed(role) if "*" in action]


def test_nobody_but_the_opener_reads_secrets_back() -> None:
    reading = {"s3:GetObject", "secretsmanager:GetSecretValue", "secretsmanager:BatchGetSecretValue"}

    for role in set(Role) - {Role.OPENER}:
        assert not reading & allowed(role), role


def parts_of_channels() -> set[str]:
    """What rollouts through each channel, with a key of their own, have on AWS."""
    settings = load(None, ["cognito.user_pool_id=eu-central-1_AbCdEfGhI", "channel.kms_key_id=alias/own"], {})
    resources = [found for kind in channels.kinds().values() if (found := kind.resources())]
    return {part for found in resources for part in found.parts(settings.channel)}


@pytest.mark.parametrize("role", list(Role))
def test_the_shipped_policies_are_these(role: Role) -> None:
    shipped = json.loads((CONFIG / f"{role}.json").read_text("utf-8"))

    assert shipped == document(role)
    assert {each.part for each in statements(role)} <= {
        "queue",
        "table",
        "pool",
        "stack",
        "sign_in",
        "preference",
        *parts_of_channels(),
    }
    sids = [statement["Sid"] for statement in shipped["Statement"]]
    assert len(sids) == len(set(sids))
