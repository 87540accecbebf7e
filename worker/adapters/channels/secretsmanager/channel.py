"""How the Secrets Manager channel delivers: one secret for each user, and one version of it for each record.

Every version has its generation as a label, so that versions can be compared without reading their values. A version
is first written with this label only; then the label ``AWSCURRENT`` is moved to the version of the highest generation.
The request names the version that had the label before: if another worker has moved it in between, Secrets Manager
refuses, and we read the labels again. So a record that is delivered late, twice, or at the same time as another never
becomes current in place of a newer one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from worker.adapters.aws.errors import code, faults
from worker.adapters.aws.naming import Names, secret_segment
from worker.adapters.channels import sentinel
from worker.adapters.channels.put_once import put_once
from worker.adapters.channels.sentinel import Answer
from worker.core.errors import ChannelUnavailable, ExitCode, RecordRefused
from worker.core.model import Sealed
from worker.core.record import record_line
from worker.core.record_size import most_in_line
from worker.core.resilience.backoff import Backoff, retry

if TYPE_CHECKING:
    from types_aiobotocore_secretsmanager import SecretsManagerClient

CURRENT = "AWSCURRENT"
"""AWS's label of the version that readers get by default."""
GENERATION = "generation-"
"""Prefix of our labels; the generation follows."""
KEPT = 8
"""How many versions of a secret keep their label; AWS allows twenty labels for each secret (user guide, quotas)."""
MAX_BYTES = 65_536
"""The most bytes of one version's value (user guide, quotas)."""
BEING_DELETED = "InvalidRequestException"
"""The code for a secret that is scheduled for deletion, or that another service owns (API reference)."""
OF_THE_SECRET = frozenset({BEING_DELETED, "InvalidParameterException", "ResourceExistsException"})
"""Codes for one secret that will never take this record; where a label was moved meanwhile, the code means that."""
ATTEMPTS = 8
"""How often one delivery is tried while others move the labels: enough for eight workers that deliver to one user."""
BACKOFF = Backoff(first=0.1, longest=0.4)
"""Pauses between the attempts: about two seconds in all; after that the whole delivery is tried again later."""
WHAT = "Secrets Manager"
"""What errors call the service."""

Versions = Mapping[str, Sequence[str]]
"""Version id → its labels."""


class SecretsManagerChannel:
    """``Channel`` into secrets named ``PREFIX/<user>``; the value is the same object as a line of the file channel.

    Needs ``secretsmanager:DescribeSecret``, ``CreateSecret``, ``PutSecretValue`` and ``UpdateSecretVersionStage``; with
    a KMS key of your own ``kms:GenerateDataKey`` and ``kms:Decrypt``.
    """

    def __init__(
        self, secretsmanager: SecretsManagerClient, prefix: str, *, kms_key_id: str | None, names: Names
    ) -> None:
        self._client = secretsmanager
        self._prefix = prefix
        self._kms_key_id = kms_key_id
        self._names = names

    async def open(self) -> None:
        """Do nothing: a missing permission shows with the first delivery, which does no harm."""

    async def deliver(self, username: str, sealed: Sealed) -> None:
        """See ``ports.Channel``."""
        name = f"{self._prefix}/{secret_segment(username, self._names)}"
        value = record_line(username, sealed).decode("ascii")
        if len(value) > MAX_BYTES:  # sealed by an earlier version, or with a longer Session than was to be expected
            raise RecordRefused("TooLarge")
        with faults(ChannelUnavailable, WHAT):
            try:
                await retry(
                    lambda: self._add_and_promote(name, sealed, value), on=_Moved, backoff=BACKOFF, attempts=ATTEMPTS
                )
            except ClientError as error:
                _explain(error)
                raise

    async def holds_records(self) -> None:
        """See ``OpenableChannel``: the worker may not list secrets, so it puts a sentinel."""

    async def put_sentinel(self) -> Answer:
        """See ``TakesSentinel``: a secret without a value, which CreateSecret makes only once."""

        async def put() -> None:
            key: Any = {} if self._kms_key_id is None else {"KmsKeyId": self._kms_key_id}
            await self._client.create_secret(Name=f"{self._prefix}/{sentinel.NAME}", Description=sentinel.SAYS, **key)

        return await put_once(put, there=("ResourceExistsException",), what=WHAT)

    def most_sealed(self, username: str) -> int:
        """See ``ports.Limited``."""
        return most_in_line(username, MAX_BYTES)

    async def close(self) -> None:
        """Do nothing: the client belongs to the caller."""

    async def _add_and_promote(self, name: str, sealed: Sealed, value: str) -> None:
        versions = await self._labelled_versions(name)
        if sealed.attempt_id not in versions:
            await self._add(name, sealed, value, versions)
            versions = await self._labelled_versions(name)
        await self._promote(name, sealed, versions)

    async def _labelled_versions(self, name: str) -> Versions:
        """The versions that have a label; a missing secret is created, without a version."""
        try:
            found = await self._client.describe_secret(SecretId=name)
        except ClientError as error:
            if code(error) != "ResourceNotFoundException":
                raise
            await self._create(name)
            return {}
        if found.get("DeletedDate"):
            raise RecordRefused(BEING_DELETED)
        return found.get("VersionIdsToStages", {})

    async def _create(self, name: str) -> None:
        try:
            if self._kms_key_id is None:
                await self._client.create_secret(Name=name)
            else:
                await self._client.create_secret(Name=name, KmsKeyId=self._kms_key_id)
        except ClientError as error:
            if code(error) != "ResourceExistsException":  # another worker was faster
                raise

    async def _add(self, name: str, sealed: Sealed, value: str, versions: Versions) -> None:
        for number in sorted(_generations(versions))[: -KEPT + 1]:
            await self._unlabel(name, number, _generations(versions)[number])
        # The same value again is no error; ResourceExistsException says that the version holds another one.
        await self._client.put_secret_value(
            SecretId=name,
            ClientRequestToken=sealed.attempt_id,
            SecretString=value,
            VersionStages=[f"{GENERATION}{sealed.generation}"],
        )

    async def _unlabel(self, name: str, generation: int, version: str) -> None:
        try:
            await self._client.update_secret_version_stage(
                SecretId=name, VersionStage=f"{GENERATION}{generation}", RemoveFromVersionId=version
            )
        except ClientError as error:
            if code(error) not in ("InvalidParameterException", "ResourceNotFoundException"):  # it has no such label
                raise

    async def _promote(self, name: str, sealed: Sealed, versions: Versions) -> None:
        """Make the highest generation current. Raises ``_Moved`` if another worker has moved the label meanwhile."""
        generations = {**_generations(versions), sealed.generation: sealed.attempt_id}
        newest = generations[max(generations)]
        current = next((version for version, labels in versions.items() if CURRENT in labels), None)
        if current == newest:
            return
        try:
            if current is None:
                await self._client.update_secret_version_stage(
                    SecretId=name, VersionStage=CURRENT, MoveToVersionId=newest
                )
            else:
                await self._client.update_secret_version_stage(
                    SecretId=name, VersionStage=CURRENT, MoveToVersionId=newest, RemoveFromVersionId=current
                )
        except ClientError as error:
            if code(error) not in ("InvalidParameterException", "ResourceNotFoundException"):
                raise
            raise _Moved(
                "Secrets Manager did not settle which version of a secret is current",
                "nothing is lost; it is tried again. Nobody else should move the labels of these secrets",
            ) from None


class _Moved(ChannelUnavailable):
    """Another worker has moved the label of the current version: read the labels again."""


def _generations(versions: Versions) -> dict[int, str]:
    """Generation → version id, from the labels."""
    found = {}
    for version, labels in versions.items():
        for label in labels:
            number = label.removeprefix(GENERATION)
            if number != label and number.isascii() and number.isdigit():
                found[int(number)] = version
    return found


def _explain(error: ClientError) -> None:
    """Raise a more helpful error, if there is one for this code."""
    if code(error) in OF_THE_SECRET:
        raise RecordRefused(code(error)) from None
    if code(error) == "LimitExceededException" and error.operation_name == "PutSecretValue":
        raise RecordRefused(code(error)) from None  # too many versions of this one secret
    if code(error) == "LimitExceededException":
        raise _for_a_person(
            f"{WHAT} is full: LimitExceededException ({error.operation_name})",
            "a Region holds 500,000 secrets, and no more on request: more users than a pilot has go through S3",
        ) from None


def _for_a_person(cause: str, hint: str) -> ChannelUnavailable:
    """The exception for a failure that only a person can fix."""
    unavailable = ChannelUnavailable(cause, hint)
    unavailable.exit_code = ExitCode.PERSON_MUST_ACT
    return unavailable
