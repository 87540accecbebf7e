"""Opening sealed records with an identity, for the service that gives the secrets to the users (letters, a web page).

Records that are not in a file are first copied into one, still sealed, by the channel that delivered them. ``newest``
then opens the newest of each user.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from worker.adapters import channels
from worker.core.errors import ExitCode, UsageError
from worker.core.record import Record
from worker.core.text import escape
from worker.sealing.age import AgeOpener
from worker.sealing.blocks import Source, opened
from worker.sealing.genuine import Genuine, Ledger
from worker.sealing.newest import Newest, Progress, Take

if TYPE_CHECKING:
    from worker.adapters.aws.session import AwsTarget
    from worker.adapters.channels.kind import ChannelKind


TELL_EVERY = 0.5
"""Seconds between two looks at how much was copied from a channel."""


def no_progress(_what: str, _done: int, _all: int | None) -> None:
    """Show nothing."""


def as_lines(out: TextIO) -> Take:
    """Write each record to ``out``, as a JSON object on a line."""

    def take(record: Record) -> None:
        out.write(json.dumps(record) + "\n")

    return take


def open_sources(
    names: Sequence[str],
    identities: Sequence[Path],
    take: Take,
    *,
    target: AwsTarget | None = None,
    into: Path | None = None,
    users: Collection[bytes] | None = None,
    progress: Progress = no_progress,
    ledger: Ledger | None = None,
) -> ExitCode:
    """Open the newest record of each user in all the sources together, and give it to ``take``.

    ``users``: the SHA-256 of the names of those who are wanted; ``None``: all. ``ledger``: only what it knows is
    opened.

    A source is a file (see ``open_files``) or begins with a channel's scheme, such as ``s3://``. If a channel's records
    can only be moved (see ``ChannelKind``), they are moved to the end of the file ``into`` and opened from there. AWS
    is used only if a source needs it: at ``target``, or as the environment says. This runs an event loop of its own. It
    returns and raises what ``open_files`` does; the channels also raise ``DependencyUnavailable`` and
    ``PersonMustAct``.
    """
    wanted = list(dict.fromkeys(names))
    remote = {name: kind for name in wanted if (kind := channels.kind_of_source(name)) is not None}
    moved = {name for name, kind in remote.items() if kind.moved_from}
    if (into is not None) != bool(moved):
        raise _into_misused()
    opener = AgeOpener(identities)  # before anything is moved
    if ledger is not None:
        ledger.check()
    with ExitStack() as stack:
        fetched: Mapping[str, Source] = {}
        if remote:
            fetched = asyncio.run(_fetch(remote, stack, target, into, progress, every=ledger is not None))
        if into is not None:
            wanted = list(dict.fromkeys([*(name for name in wanted if name not in moved), str(into)]))
        newest: Newest | Genuine = Newest(opener, take, users=users, progress=progress)
        if ledger is not None:
            newest = Genuine(opener, take, ledger, users=users, progress=progress)
        return _open((fetched.get(name) or opened(name) for name in wanted), newest)


def _into_misused() -> UsageError:
    """The error for ``--into`` without a source that needs it, or such a source without ``--into``."""
    kinds = [kind for kind in channels.kinds().values() if kind.moved_from]
    what, example = " or ".join(kind.moved_from for kind in kinds), kinds[0].source_form
    return UsageError(
        f"--into FILE and {what} belong together",
        f"name the file that the queue's messages are moved to: mfa-worker open {example} --into FILE -i KEYFILE",
    )


async def _fetch(
    sources: Mapping[str, ChannelKind[Any]],
    stack: ExitStack,
    target: AwsTarget | None,
    into: Path | None,
    progress: Progress,
    *,
    every: bool,
) -> dict[str, Source]:
    """Copy the records of each source into a temporary file of lines, or move them to the end of ``into``.

    ``every``: see ``ChannelKind.copy_records``. Return the temporary files by source; ``stack`` closes them. Raises
    ``UsageError`` for a source without records.
    """
    from worker.adapters.aws.session import Aws, AwsTarget, with_region

    on_aws = any(kind.resources() is not None for kind in sources.values())
    found: dict[str, Source] = {}
    async with Aws(with_region(target) if on_aws else AwsTarget("")) as aws:
        for source, kind in sources.items():
            where = source.removeprefix(kind.scheme)
            if kind.moved_from:
                assert into is not None
                if said := await kind.move_records(where, aws, into):
                    sys.stderr.write(f"{said}\n")
                continue
            file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - sealed records only
            async with _told(file, progress):
                found_any = await kind.copy_records(where, aws, file, every=every)
            if not found_any:
                raise UsageError(f"there is no sealed record in {source}", "name what the worker delivered to")
            file.seek(0)
            found[source] = Source(escape(source), file)
    return found


@asynccontextmanager
async def _told(file: BinaryIO, progress: Progress) -> AsyncIterator[None]:
    """Say while the body runs how many kilobytes are in the file."""

    async def tell() -> None:
        while True:
            await asyncio.sleep(TELL_EVERY)
            progress("kB copied", os.fstat(file.fileno()).st_size // 1000, None)

    telling = asyncio.create_task(tell())
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)


def open_files(names: Sequence[str], identities: Sequence[Path], out: TextIO) -> ExitCode:
    """Open the newest record of each user in the files (``-``: standard input), and write it to ``out`` as JSON.

    A file contains lines, or is a single age file. Return exit code 1 if a record could not be opened. Raises
    ``UsageError`` for a file that cannot be read, or an identity file without an identity.
    """
    return _open(map(opened, names), Newest(AgeOpener(identities), as_lines(out)))


def _open(sources: Iterable[Source], newest: Newest | Genuine) -> ExitCode:
    with closing(newest):
        for source in sources:
            newest.look_through(source)
        newest.open_all()
    return newest.report(sys.stderr)
