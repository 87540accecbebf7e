"""The settings of channels that store something under a name for each user: an object in S3, or a secret."""

from __future__ import annotations

from pydantic import Field

from worker.adapters.aws.naming import Names
from worker.settings.stores import ChannelSettings
from worker.settings.types import Optional


class NamedSettings(ChannelSettings):
    """How the names begin, how users appear in them, and which key encrypts what is stored."""

    prefix: str = Field(
        default="mfa-worker",
        max_length=128,
        pattern=r"^[0-9A-Za-z][0-9A-Za-z_.=@/-]*[0-9A-Za-z]$|^[0-9A-Za-z]$",
        description="what the names of S3 objects and secrets begin with",
    )
    kms_key_id: Optional = Field(
        default=None, description="the KMS key for S3 objects and secrets; by default AWS's own for the service"
    )
    names: Names = Field(
        default="username", description="how users are named there: by username (encoded), or by its SHA-256 (hash)"
    )
