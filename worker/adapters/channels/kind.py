"""What the rest of the worker asks of a channel: its settings, how it delivers, is read back, checked and set up.

A channel's folder makes one object of its own subclass of ``ChannelKind``. Imports are light here and in every folder's
``__init__``, because all channels are looked at for the settings' keys; what needs an SDK is imported when it is asked
for.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Generic, Protocol, TypeVar

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
    """A channel as its folder makes it: not open yet."""

    async def open(self) -> None:
        """Look whether it is safe to deliver here. Raises ``UsageError`` where it is not, ``ChannelUnavailable``."""

    async def close(self) -> None:
        """Let go of what this channel holds; the AWS session is closed by whoever gave it."""


class ChannelChecks(Generic[Keys]):
    """What ``check`` asks of a channel: nothing, where its folder does not say otherwise."""

    def folders(self, channel: Keys) -> Sequence[Path]:  # noqa: ARG002
        """The folders of this host that its settings name, where no age identity may lie."""
        return ()

    def look_at_host(self, channel: Keys, mounts: Path) -> Sequence[Finding]:  # noqa: ARG002
        """What is to be said of this host; ``mounts``: the table of mounted file systems (see ``checks.files``)."""
        return ()

    def questions(self, channel: Keys) -> Sequence[Question]:  # noqa: ARG002
        """What AWS is asked."""
        return ()

    def look_at_size(self, seen: Seen) -> Sequence[Finding]:  # noqa: ARG002
        """What follows from the number of users."""
        return ()


class ChannelResources(ABC, Generic[Keys]):
    """What a channel has on AWS: for ``init``, for the CloudFormation template, and in the roles' policies."""

    @abstractmethod
    def parts(self, channel: Keys) -> Collection[str]:
        """Which parts of a rollout (see ``Allowed``) these settings have."""

    @abstractmethod
    def statements(self, role: Role) -> Sequence[Allowed]:
        """What a role may do with it."""

    @abstractmethod
    def template(self, channel: Keys) -> TemplatePart:
        """Its part of the CloudFormation template."""

    @abstractmethod
    async def make_missing(self, channel: Keys, aws: Aws, region: str, report: InitReport) -> Sequence[str]:
        """Make what is not there yet and tell of it; give the lines of the settings that name it.

        Raises ``DependencyUnavailable``, or what the SDK raises.
        """


class ChannelKind(ABC, Generic[Keys]):
    """One channel."""

    settings: type[Keys]
    """Its section of the settings: the keys that every channel has, and its own."""
    summary: str
    """What people choose it for, in a few words for the help of ``channel.kind``."""

    scheme: str = ""
    """How its sources begin where ``open`` is told one (``s3://``); empty where its records are the lines of a file."""
    source_form: str = ""
    """A source of it as help shows it: ``s3://BUCKET/PREFIX``."""
    moved_from: str = ""
    """What it is called where records can only be taken out of it ("an SQS queue"): ``open`` asks for ``--into`` then,
    and calls ``move_records``; else, empty, ``copy_records``."""

    @abstractmethod
    async def make(self, channel: Keys, aws: Aws) -> OpenableChannel:
        """What delivers, to be opened. Raises ``PersonMustAct`` where AWS credentials are missing."""

    @abstractmethod
    def source(self, channel: Keys) -> str:
        """Where ``open`` finds what is delivered with these settings: a path, or what begins with ``scheme``."""

    async def copy_records(self, where: str, aws: Aws, file: BinaryIO) -> int:
        """Write the newest record of each user, sealed as it is, as a line (see ``core.record``); give their number.

        ``where``: the source without its scheme. What cannot be a record becomes ``copying.LOST``, to be counted.
        Raises ``ChannelUnavailable``, ``DependencyUnavailable``.
        """
        raise NotImplementedError

    async def move_records(self, where: str, aws: Aws, into: Path) -> str:
        """Move every record, sealed as it is, to the end of the file ``into``, a line each.

        Gives what the user should be told, or nothing. Raises ``UsageError`` for a file that cannot be written,
        ``ChannelUnavailable``.
        """
        raise NotImplementedError

    def checks(self) -> ChannelChecks[Keys]:
        """What ``check`` asks."""
        return ChannelChecks()

    def resources(self) -> ChannelResources[Keys] | None:
        """What it has on AWS; ``None``: it needs no AWS, so that nobody is asked for credentials or a Region."""
        return None
