"""The settings of the queue, the ledger and the channel, each of which is on this host or on AWS, and of AWS itself."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from worker.settings.queue_urls import QueueUrl
from worker.settings.types import Endpoint, File, Optional, Seconds, SecondsOrZero, Section, by_default, required_with


class QueueSettings(Section):
    """The queue: where requests wait."""

    kind: Literal["sqlite", "sqs"] = Field(
        default="sqlite",
        description="where requests wait: sqlite (a file on a local disk, for one host) or sqs",
    )
    path: File = Field(
        default=Path("mfa-worker.db"),
        description="kind sqlite: the file, made with mode 0600, since it holds Sessions and access tokens until they "
        "are used",
    )
    url: QueueUrl = Field(
        default=None,
        validate_default=True,
        description="kind sqs: the URL of the queue; a standard queue, encrypted, since it holds credentials",
    )
    visibility: Seconds = Field(
        default=60.0,
        description="how long a leased message is hidden from other workers, renewed while it is worked on; after a "
        "kill the rest of it passes before another worker gets the message (kind sqlite: no wait)",
    )
    dead_letter_url: QueueUrl = Field(
        default=None,
        description="kind sqs: the URL of the queue for malformed messages, of which it gets reason and digest, never "
        "the body; a standard queue, and not queue.url; without it they are deleted with a warning in the log",
    )
    empty_after: SecondsOrZero = Field(
        default=60.0,
        description="kind sqs: how long the queue must look empty before it counts as empty, since its counts may be a "
        "minute late",
    )

    @field_validator("url")
    @classmethod
    def _is_there(cls, value: str | None, info: ValidationInfo) -> str | None:
        return required_with("sqs", value, info)


class LedgerSettings(Section):
    """The ledger: the state of every user, and the only source of truth."""

    kind: Literal["sqlite", "dynamodb"] = Field(
        default="sqlite",
        description="where the state of each user is kept: sqlite (a file on a local disk, for one host) or dynamodb",
    )
    path: File = Field(
        default=Path("mfa-worker.db"),
        description="kind sqlite: the file",
        json_schema_extra=by_default("`queue.path`"),
    )
    table: Optional = Field(
        default=None, validate_default=True, description="kind dynamodb: the name of the table; never give it a TTL"
    )
    must_exist: bool = Field(
        default=False,
        description="true makes a missing ledger an error (exit 2) in place of the beginning of a new rollout: set it "
        "once the rollout has begun",
    )
    keep_sealed: bool = Field(
        default=False,
        description="true keeps each user's sealed record in the ledger after its delivery, so that `redeliver` can "
        "deliver it again; only the recipients can open it",
    )
    lease: Seconds = Field(
        default=60.0,
        description="how long a worker's claim on a user holds unless it is renewed; at least three times "
        "cognito.call_timeout",
    )
    clock_skew: SecondsOrZero = Field(
        default=60.0,
        description="how far the clocks of the workers' hosts may differ; a dead worker's claim is taken over that "
        "much later",
    )
    patience: SecondsOrZero = Field(
        default=60.0,
        description="how long a write that the ledger does not confirm is repeated before the run stops (exit 75)",
    )

    @field_validator("table")
    @classmethod
    def _is_there(cls, value: str | None, info: ValidationInfo) -> str | None:
        return required_with("dynamodb", value, info)


class ChannelSettings(Section):
    """The secure way to the users."""

    # These are the keys that every channel has. Each channel's own keys are in its folder, and ``settings.channels``
    # builds one section of all of them; only that section is ever instantiated.
    model_config = ConfigDict(defer_build=True)

    kind: str = Field(default="file", description="where sealed secrets go")
    min_validity: SecondsOrZero = Field(
        default=30.0, description="a secret whose Session dies sooner than this is void and is not delivered"
    )
    patience: SecondsOrZero = Field(
        default=300.0, description="how long a channel that does not confirm is tried before the run stops (exit 75)"
    )


class AwsSettings(Section):
    """How to reach the AWS services of queue, ledger and channel.

    Credentials and proxies are not settings: the AWS SDK finds them in its default way (for credentials: environment,
    profile, role, web identity).
    """

    region: str = Field(
        default="",
        pattern=r"^[0-9A-Za-z-]{0,40}$",
        description="the Region of queue, table and channel",
        json_schema_extra=by_default("`cognito.region`"),
    )
    profile: Optional = Field(
        default=None, description="a profile of the AWS configuration files; leave it out where there is a role"
    )
    fips: bool = Field(default=False, description="true uses the FIPS endpoints of AWS, also for Cognito")
    sqs_endpoint_url: Endpoint = Field(
        default=None, description="another address for SQS, such as that of a VPC endpoint or an emulator"
    )
    dynamodb_endpoint_url: Endpoint = Field(default=None, description="another address for DynamoDB")
    s3_endpoint_url: Endpoint = Field(default=None, description="another address for S3")
    secretsmanager_endpoint_url: Endpoint = Field(default=None, description="another address for Secrets Manager")
    kms_endpoint_url: Endpoint = Field(default=None, description="another address for KMS, which check asks")
    sts_endpoint_url: Endpoint = Field(default=None, description="another address for STS, which check asks")
    servicequotas_endpoint_url: Endpoint = Field(
        default=None, description="another address for Service Quotas, which check asks"
    )
    cloudformation_endpoint_url: Endpoint = Field(
        default=None, description="another address for CloudFormation; no command calls it today"
    )
    cognito_endpoint_url: Endpoint = Field(
        default=None,
        description="another address for what check asks about the pool; the enrolling call has cognito.endpoint_url",
    )
