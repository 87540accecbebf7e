"""The settings of where requests wait, who stands where, and how secrets leave: embedded, or on AWS."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field, ValidationInfo, field_validator

from worker.settings.types import Endpoint, Optional, Seconds, SecondsOrZero, Section, required_with


class QueueSettings(Section):
    """Where requests wait."""

    kind: Literal["sqlite", "sqs"] = Field(
        default="sqlite", description="sqlite (a file on a local disk, for one host) or sqs"
    )
    path: Path = Field(default=Path("mfa-worker.db"), description="the SQLite file")
    url: Optional = Field(
        default=None, validate_default=True, description="the SQS queue; it holds credentials, so it must be encrypted"
    )
    visibility: Seconds = Field(
        default=60.0, description="how long a leased request is hidden from others; renewed while it is worked on"
    )
    dead_letter_url: Optional = Field(
        default=None, description="the SQS queue for what is malformed (reason and digest, never the message)"
    )
    empty_after: SecondsOrZero = Field(
        default=60.0, description="how long an SQS queue must look empty until it is: its counts lag by up to a minute"
    )

    @field_validator("url")
    @classmethod
    def _is_there(cls, value: str | None, info: ValidationInfo) -> str | None:
        return required_with("sqs", value, info)


class LedgerSettings(Section):
    """Who stands where; the only source of truth."""

    kind: Literal["sqlite", "dynamodb"] = Field(
        default="sqlite", description="sqlite (a file on a local disk, for one host) or dynamodb"
    )
    path: Path = Field(default=Path("mfa-worker.db"), description="the SQLite file; by default the queue's")
    table: Optional = Field(default=None, validate_default=True, description="the DynamoDB table's name")
    must_exist: bool = Field(default=False, description="true refuses to begin a new ledger where there is none")
    lease: Seconds = Field(
        default=60.0, description="how long a claim on a user holds; at least three times cognito.call_timeout"
    )
    clock_skew: SecondsOrZero = Field(
        default=60.0, description="how far the workers' clocks may differ; a claim is taken over that much later"
    )
    patience: SecondsOrZero = Field(
        default=60.0, description="how long a write that the ledger does not confirm is repeated (then exit 75)"
    )

    @field_validator("table")
    @classmethod
    def _is_there(cls, value: str | None, info: ValidationInfo) -> str | None:
        return required_with("dynamodb", value, info)


class ChannelSettings(Section):
    """The secure way to the users: what every channel has. Each channel adds keys of its own (see ``channels``)."""

    model_config = ConfigDict(defer_build=True)  # only the section of all channels together is ever filled

    kind: str = Field(default="file")
    min_validity: SecondsOrZero = Field(
        default=30.0, description="a secret whose Session dies sooner than this is void and is not delivered"
    )
    patience: SecondsOrZero = Field(
        default=300.0, description="how long a channel that does not confirm is tried before the run stops (exit 75)"
    )


class AwsSettings(Section):
    """How to reach AWS. Credentials come the default way: environment, profile, role, web identity."""

    region: str = Field(
        default="", pattern=r"^[0-9A-Za-z-]{0,40}$", description="of queue, table and channel; by default Cognito's"
    )
    profile: Optional = Field(default=None, description="a profile of the AWS configuration files")
    fips: bool = Field(default=False, description="true uses the FIPS endpoints, also for Cognito")
    sqs_endpoint_url: Endpoint = Field(default=None, description="another address for SQS (VPC endpoint, emulator)")
    dynamodb_endpoint_url: Endpoint = Field(default=None, description="another address for DynamoDB")
    s3_endpoint_url: Endpoint = Field(default=None, description="another address for S3")
    secretsmanager_endpoint_url: Endpoint = Field(default=None, description="another address for Secrets Manager")
    kms_endpoint_url: Endpoint = Field(default=None, description="another address for KMS (check)")
    sts_endpoint_url: Endpoint = Field(default=None, description="another address for STS (check)")
    servicequotas_endpoint_url: Endpoint = Field(default=None, description="another address for Service Quotas (check)")
    cloudformation_endpoint_url: Endpoint = Field(default=None, description="another address for CloudFormation")
    cognito_endpoint_url: Endpoint = Field(
        default=None, description="another address for asking about the pool (check); the call has cognito.endpoint_url"
    )
