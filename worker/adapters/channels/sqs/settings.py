"""The settings of the SQS channel."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from worker.settings.queue_urls import QueueUrl
from worker.settings.stores import ChannelSettings
from worker.settings.types import required_with


class SqsSettings(ChannelSettings):
    """Which queue."""

    url: QueueUrl = Field(default=None, validate_default=True, description="the SQS queue; it must be encrypted")

    @field_validator("url")
    @classmethod
    def _has_a_queue(cls, value: str | None, info: ValidationInfo) -> str | None:
        return required_with("sqs", value, info)
