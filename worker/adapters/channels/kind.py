"""What the rest of the worker needs of a channel: its settings, and how it delivers, is read back, checked and set up.

Each channel's folder defines one subclass of ``ChannelKind`` and one object of it. This file and every folder's
``__init__`` only import light modules, because all of them are imported to read the settings; what needs an SDK is
imported inside the methods.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Generic, Protocol, TypeVar

from worker.core.model import Sealed
from worker.core.ports import Channel

if TYPE_CHECKING:
    from worker.adapters.aws.init_report import InitReport
    from worker.adapters.aws.policy import Allowed, Role
    from worker.adapters.aws.session import Aws
    from worker.adapters.aws.template import TemplatePart
    from worker.adapters.checks.findings import Finding
    from worker.adapters.checks.probes import Question
    from worker.adapters.checks.seen import Seen
    from worker.settings.stores import ChannelSettings

Keys = TypeVar("Keys", bound="ChannelSettings")
"""A channel's own class of settings."""


class OpenableChannel(Channel, Protocol):
    """A channel as ``ChannelKind.make`` returns it, which is not open."""

    async def open(self) -> None:
        """Check that it is safe to deliver here. Raises ``UsageError`` if it is not, ``ChannelUnavailable``."""

    async def holds_records(self) -> bool | None:
        """Whether records are in the channel already; ``None`` where the worker cannot or may not see that.

        It is asked before a rollout begins: records of another one mean that this is not its ledger.
        """

    async def close(self) -> None:
        """Release the channel's resources; the AWS session stays open, because the caller owns it."""


class ChannelChecks(Generic[Keys]):
    """What ``check`` does for a channel; by default nothing."""

    def folders(self, channel: Keys) -> Sequence[Path]:  # noqa: ARG002
        """The folders of this host that the channel writes to: no age identity may be in them."""
        return ()

    def look_at_host(self, channel: Keys, mounts: Path) -> Sequence[Finding]:  # noqa: ARG002
        """The findings about this host; ``mounts``: the table of mounted file systems (see ``checks.files``)."""
        return ()

    def questions(self, channel: Keys) -> Sequence[Question]:  # noqa: ARG002
        """The questions to AWS."""
        return ()

    def look_at_delivered(self, channel: Keys, delivered: int) -> Sequence[Finding] | None:  # noqa: ARG002
        """The findings about the records of so many delivered users; ``None``: the worker may not read them."""
        return None

    def look_at_size(self, seen: Seen) -> Sequence[Finding]:  # noqa: ARG002
        """The findings that depend on the number of users."""
        return ()


class ChannelResources(ABC, Generic[Keys]):
    """A channel's resources on AWS, for ``init``, the CloudFormation template and the roles' policies."""

    @abstractmethod
    def parts(self, channel: Keys) -> Collection[str]:
        """The parts of a rollout (see ``Allowed.part``) that exist with these settings."""

    @abstractmethod
    def statements(self, role: Role) -> Sequence[Allowed]:
        """What a role may do with the resources."""

    @abstractmethod
    def template(self, channel: Keys) -> TemplatePart:
        """The channel's part of the CloudFormation template."""

    @abstractmethod
    async def make_missing(self, channel: Keys, aws: Aws, region: str, report: InitReport) -> Sequence[str]:
        """Create the missing resources and report them; return the lines for the settings file that name them.

        Raises ``DependencyUnavailable``, or what the SDK raises.
        """


@dataclass(frozen=True, slots=True)
class Content:
    """What is in a channel at the end of a rollout; it is not looked at whose it is beyond its names."""

    what: str
    """How many of what, in words; empty: nothing is there."""
    where: str
    note: str = ""
    """What a person should know before it is gone."""


class ChannelEnding(ABC, Generic[Keys]):
    """A channel at the end of a rollout."""

    @abstractmethod
    async def look(self, channel: Keys, aws: Aws) -> Content:
        """What is there of a rollout with these settings. Raises ``ChannelUnavailable``."""

    @abstractmethod
    async def remove(self, channel: Keys, aws: Aws) -> Sequence[tuple[str, str]]:
        """Delete it; may be interrupted and done again. Return what cannot be deleted, each with the cure.

        Raises ``ChannelUnavailable``, ``UsageError``.
        """


class ChannelKind(ABC, Generic[Keys]):
    """Everything about one kind of channel."""

    settings: type[Keys]
    """Its section of the settings: the keys that every channel has, and its own."""
    summary: str
    """What people use it for, in a few words, for the help of ``channel.kind``."""

    scheme: str = ""
    """How the sources of ``open`` begin that belong to it (``s3://``); empty if its records are the lines of a file."""
    source_form: str = ""
    """The form of such a source for the help: ``s3://BUCKET/PREFIX``."""
    moved_from: str = ""
    """For a channel whose records cannot be read without removing them: its name for messages ("an SQS queue").
    ``open`` then requires ``--into`` and calls ``move_records``; if this is empty, it calls ``copy_records``."""

    @abstractmethod
    async def make(self, channel: Keys, aws: Aws) -> OpenableChannel:
        """Create the channel, which is not open then. Raises ``PersonMustAct`` if AWS credentials are missing."""

    @abstractmethod
    def source(self, channel: Keys) -> str:
        """The source for ``open`` of the records that these settings deliver: a path, or begins with ``scheme``."""

    def place(self, channel: Keys, username: str, sealed: Sealed) -> str:  # noqa: ARG002
        """Where one record of a user is that was delivered, as exactly as these settings tell."""
        return self.source(channel)

    def file(self, channel: Keys) -> Path | None:  # noqa: ARG002
        """The file of lines on this host that these settings append to; ``None`` where the records go elsewhere."""
        return None

    def refuse_other_files(self, channel: Keys) -> None:
        """Raise ``UsageError`` where that file exists and holds something else."""

    async def list_records(self, where: str, aws: Aws, file: BinaryIO) -> int:
        """Write a line for the newest record of each user as ``copy_records`` does; it need not hold what is sealed.

        For a channel that can tell user, generation and attempt of a record without reading the record.
        """
        return await self.copy_records(where, aws, file)

    async def copy_records(self, where: str, aws: Aws, file: BinaryIO, *, every: bool = False) -> int:
        """Write the newest sealed record of each user as a line (see ``core.record``); return the number of lines.

        ``where``: the source without its scheme. ``every``: every record, with the bytes that are there, because one
        that somebody forged must not hide another. For something that cannot be a record ``copying.lost`` is
        written, so that it is counted. Raises ``ChannelUnavailable``, ``DependencyUnavailable``.
        """
        raise NotImplementedError

    async def move_records(self, where: str, aws: Aws, into: Path) -> str:
        """Move every sealed record to the end of the file ``into``, one line each.

        Return a message for the user, or an empty text. Raises ``UsageError`` if the file cannot be written,
        ``ChannelUnavailable``.
        """
        raise NotImplementedError

    def checks(self) -> ChannelChecks[Keys]:
        """What ``check`` does for this channel."""
        return ChannelChecks()

    def ending(self) -> ChannelEnding[Keys] | None:
        """How its content is deleted; ``None``: only by hand."""
        return None

    def resources(self) -> ChannelResources[Keys] | None:
        """Its resources on AWS; ``None`` if it does not use AWS, so that no credentials and no Region are needed."""
        return None
