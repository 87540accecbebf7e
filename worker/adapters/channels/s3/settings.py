"""The settings of the S3 channel."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator

from worker.adapters.channels.named import NamedSettings
from worker.settings.types import Optional, required_with


class S3Settings(NamedSettings):
    """Which bucket."""

    bucket: Optional = Field(default=None, validate_default=True, description="the S3 bucket")

    @field_validator("bucket")
    @classmethod
    def _has_a_bucket(cls, value: str | None, info: ValidationInfo) -> str | None:
        return required_with("s3", value, info)
