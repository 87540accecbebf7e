"""The CloudFormation template of what ``init`` would make, with the roles' policies, to be reviewed first.

The same properties as in ``resources``; names are parameters, and those of the settings their defaults.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from worker.setup import resources
from worker.setup.policies import Role, document
from worker.setup.resources import Wanted


def template(wanted: Wanted) -> dict[str, Any]:
    """The whole template, ready for ``json.dumps``."""
    return {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "mfa-worker: queue, ledger and channel of one rollout, and what its roles may do",
        "Parameters": {name: _parameter(*about) for name, about in _parameters(wanted)},
        "Resources": dict([*_queues(wanted), *_table(wanted), *_bucket(wanted), *_policies(wanted)]),
        "Outputs": {name: {"Description": said, "Value": value} for name, said, value in _outputs(wanted)},
    }


def _parameters(wanted: Wanted) -> Iterator[tuple[str, tuple[str, str]]]:
    if wanted.queue:
        yield "Queue", (wanted.queue, "The queue of requests (queue.url)")
        yield "DeadLetters", (wanted.dead_letters or "", "The queue of dead letters (queue.dead_letter_url)")
    if wanted.table:
        yield "Table", (wanted.table, "The ledger (ledger.table)")
    if wanted.bucket:
        yield "Bucket", (wanted.bucket, "The bucket of sealed secrets (channel.bucket)")
    if wanted.channel_queue:
        yield "ChannelQueue", (wanted.channel_queue, "The queue of sealed secrets (channel.url)")
    if wanted.bucket or wanted.secrets:
        yield "Prefix", (wanted.prefix, "What the names of objects and secrets begin with (channel.prefix)")
    if wanted.kms_key_id:
        yield "Key", (wanted.kms_key_id.rpartition("/")[2], "The id of the KMS key (channel.kms_key_id)")


def _parameter(default: str, said: str) -> dict[str, str]:
    return {"Type": "String", "Default": default, "Description": said}


def _queues(wanted: Wanted) -> Iterator[tuple[str, Any]]:
    if wanted.queue:
        arn = {"Fn::GetAtt": ["DeadLettersQueue", "Arn"]}
        yield from _queue("DeadLettersQueue", "DeadLetters", resources.dead_letters_properties())
        yield from _queue("RequestsQueue", "Queue", resources.queue_properties(wanted, arn))
    if wanted.channel_queue:
        yield from _queue("DeliveredQueue", "ChannelQueue", resources.channel_queue_properties())


def _queue(name: str, parameter: str, properties: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield name, _kept("AWS::SQS::Queue", {"QueueName": {"Ref": parameter}, **properties})
    statement = resources.plain_http_denied([{"Fn::GetAtt": [name, "Arn"]}], "sqs")
    policy = {"Queues": [{"Ref": name}], "PolicyDocument": resources.policy(statement)}
    yield f"{name}Policy", {"Type": "AWS::SQS::QueuePolicy", "Properties": policy}


def _table(wanted: Wanted) -> Iterator[tuple[str, Any]]:
    if wanted.table:
        properties = resources.table_properties(wanted.table)
        properties["TableName"] = {"Ref": "Table"}
        properties["SSESpecification"] = {"SSEEnabled": properties["SSESpecification"]["Enabled"]}
        properties["PointInTimeRecoverySpecification"] = {"PointInTimeRecoveryEnabled": True}
        yield "LedgerTable", _kept("AWS::DynamoDB::Table", properties)


def _bucket(wanted: Wanted) -> Iterator[tuple[str, Any]]:
    if not wanted.bucket:
        return
    rule = resources.bucket_encryption(wanted)
    rule["ServerSideEncryptionByDefault"] = rule.pop("ApplyServerSideEncryptionByDefault")
    if wanted.kms_key_id:
        rule["ServerSideEncryptionByDefault"]["KMSMasterKeyID"] = {"Ref": "Key"}
    expiry = {
        "Id": "forget",
        "Status": "Enabled",
        "NoncurrentVersionExpiration": {"NoncurrentDays": resources.NONCURRENT_DAYS},
    }
    properties = {
        "BucketName": {"Ref": "Bucket"},
        "BucketEncryption": {"ServerSideEncryptionConfiguration": [rule]},
        "PublicAccessBlockConfiguration": resources.PUBLIC_ACCESS_BLOCK,
        "VersioningConfiguration": {"Status": "Enabled"},
        "LifecycleConfiguration": {"Rules": [expiry]},
    }
    yield "SecretsBucket", _kept("AWS::S3::Bucket", properties)
    arn = {"Fn::GetAtt": ["SecretsBucket", "Arn"]}
    objects = {"Fn::Sub": "${SecretsBucket.Arn}/*"}
    statements = (resources.plain_http_denied([arn, objects], "s3"), resources.overwriting_denied(objects))
    policy = {"Bucket": {"Ref": "SecretsBucket"}, "PolicyDocument": resources.policy(*statements)}
    yield "SecretsBucketPolicy", {"Type": "AWS::S3::BucketPolicy", "Properties": policy}


def _kept(kind: str, properties: dict[str, Any]) -> dict[str, Any]:
    """A resource that stays when the stack is deleted: no ledger and no secret is lost with it."""
    return {"Type": kind, "DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain", "Properties": properties}


def _policies(wanted: Wanted) -> Iterator[tuple[str, Any]]:
    for role in (Role.PUSHER, Role.WORKER, Role.OPENER):  # the operator is whoever makes the stack
        policy = document(role, _parts(wanted))
        if not policy["Statement"]:
            continue
        for statement in policy["Statement"]:
            statement["Resource"] = [_substituted(arn) for arn in _listed(statement["Resource"])]
        said = f"What the {role} of mfa-worker may do"
        properties = {"Description": said, "PolicyDocument": policy}
        yield f"{role.capitalize()}Policy", {"Type": "AWS::IAM::ManagedPolicy", "Properties": properties}


def _parts(wanted: Wanted) -> set[str]:
    has = {
        "queue": wanted.queue,
        "table": wanted.table,
        "bucket": wanted.bucket,
        "channel_queue": wanted.channel_queue,
        "secrets": wanted.secrets,
        "key": wanted.kms_key_id,
    }
    return {part for part, there in has.items() if there}


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _substituted(arn: str) -> Any:
    if "${" not in arn:
        return arn
    for name, pseudo in (("Partition", "Partition"), ("Region", "Region"), ("Account", "AccountId")):
        arn = arn.replace(f"${{{name}}}", f"${{AWS::{pseudo}}}")
    return {"Fn::Sub": arn}


def _outputs(wanted: Wanted) -> Iterable[tuple[str, str, Any]]:
    if wanted.queue:
        yield "QueueUrl", "queue.url", {"Ref": "RequestsQueue"}
        yield "DeadLetterUrl", "queue.dead_letter_url", {"Ref": "DeadLettersQueue"}
    if wanted.table:
        yield "LedgerTableName", "ledger.table", {"Ref": "LedgerTable"}
    if wanted.bucket:
        yield "BucketName", "channel.bucket", {"Ref": "SecretsBucket"}
    if wanted.channel_queue:
        yield "ChannelUrl", "channel.url", {"Ref": "DeliveredQueue"}
