"""What the rest of the worker asks of a channel: its settings, how it delivers, is read back, checked and set up.

A channel's folder makes one object of its own subclass. Imports are light here and in every folder's ``__init__``,
because all channels are looked at for the settings' keys; what needs an SDK is imported when it is asked for.
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
        """Let go of what this channel holds; ``aws`` is closed by whoever gave it."""


class ChannelKind(ABC, Generic[Keys]):
    """One channel. What has a default here is what a channel without AWS need not say."""

    settings: type[Keys]
    """Its section of the settings: the keys that every channel has, and its own."""
    summary: str
    """What people choose it for, in a few words for the help of ``channel.kind``."""
    on_aws: bool = True
    """Whether it needs AWS: only then are credentials and a Region asked for."""

    # How it delivers

    @abstractmethod
    async def make(self, channel: Keys, aws: Aws) -> OpenableChannel:
        """The channel, to be opened. Raises ``PersonMustAct`` where AWS credentials are missing."""

    # How ``open`` reads its records back

    scheme: str = ""
    """How its sources begin on the command line (``s3://``); empty where its records are the lines of a file."""
    source_form: str = ""
    """A source of it as help shows it: ``s3://BUCKET/PREFIX``."""
    moved_from: str = ""
    """What it is called where records can only be taken out of it ("an SQS queue"): ``open`` asks for ``--into`` then,
    and calls ``move_records``; else, empty, ``copy_records``."""

    @abstractmethod
    def source(self, channel: Keys) -> str:
        """Where the records of these settings are: a path, or a source that begins with ``scheme``."""

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

    # What ``check`` asks

    def folders(self, channel: Keys) -> Sequence[Path]:
        """The folders of this host that its settings name, where no age identity may lie."""
        del channel
        return ()

    def look_at_host(self, channel: Keys, mounts: Path) -> Sequence[Finding]:
        """What is to be said of this host; ``mounts``: the table of mounted file systems (see ``checks.files``)."""
        del channel, mounts
        return ()

    def questions(self, channel: Keys) -> Sequence[Question]:
        """What AWS is asked."""
        del channel
        return ()

    def look_at_size(self, channel: Keys, seen: Seen) -> Sequence[Finding]:
        """What follows from the number of users."""
        del channel, seen
        return ()

    # What it has on AWS, for ``init``, the CloudFormation template and the IAM policies

    def parts(self, channel: Keys) -> Collection[str]:
        """Which parts (see ``Allowed``) these settings have."""
        del channel
        return ()

    def statements(self, role: Role) -> Sequence[Allowed]:
        """What a role may do with it."""
        del role
        return ()

    def template(self, channel: Keys) -> TemplatePart:
        """Its part of the CloudFormation template."""
        from worker.adapters.aws.template import TemplatePart

        del channel
        return TemplatePart()

    async def make_missing(self, channel: Keys, aws: Aws, region: str, report: InitReport) -> Sequence[str]:
        """Make what is not there yet and tell of it; give the lines of the settings that name it.

        Raises ``DependencyUnavailable``, or what the SDK raises.
        """
        del channel, aws, region, report
        return ()
