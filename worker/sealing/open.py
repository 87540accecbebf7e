"""Opening sealed records with an identity, for the service that gives the secrets to the users (letters, a web page).

The first pass finds the newest record of each user without opening any line; the second pass opens only those. Records
that are not in a file are first copied into one, still sealed, by the channel that delivered them.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from worker.adapters import channels
from worker.core.errors import ExitCode, UsageError
from worker.core.record import Record, line_address, parse_object, record_address, require_address
from worker.sealing.age import AgeOpener

if TYPE_CHECKING:
    from worker.adapters.aws.session import AwsTarget
    from worker.adapters.channels.kind import ChannelKind

_AGE = b"age-encryption.org/v1"
"""The first bytes of every age file (age specification)."""

Found = tuple[int, Callable[[], Record]]
"""A record's generation, and a function that opens it."""


def open_sources(
    names: Sequence[str],
    identities: Sequence[Path],
    out: TextIO,
    *,
    target: AwsTarget | None = None,
    into: Path | None = None,
) -> ExitCode:
    """Open the newest record of each user in all the sources together, and write it to ``out``.

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
    with ExitStack() as stack:
        fetched: Mapping[str, BinaryIO] = {}
        if remote:
            fetched = asyncio.run(_fetch(remote, stack, target, into))
        if into is not None:
            wanted = list(dict.fromkeys([*(name for name in wanted if name not in moved), str(into)]))
        files = (fetched[name] if name in fetched else stack.enter_context(_seekable(name)) for name in wanted)
        return _open(files, opener, out)


def _into_misused() -> UsageError:
    """The error for ``--into`` without a source that needs it, or such a source without ``--into``."""
    kinds = [kind for kind in channels.kinds().values() if kind.moved_from]
    what, example = " or ".join(kind.moved_from for kind in kinds), kinds[0].source_form
    return UsageError(
        f"--into FILE and {what} belong together",
        f"name the file that the queue's messages are moved to: mfa-worker open {example} --into FILE -i KEYFILE",
    )


async def _fetch(
    sources: Mapping[str, ChannelKind[Any]], stack: ExitStack, target: AwsTarget | None, into: Path | None
) -> dict[str, BinaryIO]:
    """Copy the records of each source into a temporary file of lines, or move them to the end of ``into``.

    Return the temporary files by source; ``stack`` closes them. Raises ``UsageError`` for a source without records.
    """
    from worker.adapters.aws.session import Aws, AwsTarget, with_region

    on_aws = any(kind.resources() is not None for kind in sources.values())
    found: dict[str, BinaryIO] = {}
    async with Aws(with_region(target) if on_aws else AwsTarget("")) as aws:
        for source, kind in sources.items():
            where = source.removeprefix(kind.scheme)
            if kind.moved_from:
                assert into is not None
                if said := await kind.move_records(where, aws, into):
                    sys.stderr.write(f"{said}\n")
                continue
            file = stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115 - sealed records only
            if not await kind.copy_records(where, aws, file):
                raise UsageError(f"there is no sealed record in {source}", "name what the worker delivered to")
            file.seek(0)
            found[source] = file
    return found


def open_files(names: Sequence[str], identities: Sequence[Path], out: TextIO) -> ExitCode:
    """Open the newest record of each user in the files (``-``: standard input), and write it to ``out`` as JSON.

    A file contains lines, or is a single age file. Return exit code 1 if a record could not be opened. Raises
    ``UsageError`` for a file that cannot be read, or an identity file without an identity.
    """
    opener = AgeOpener(identities)
    with ExitStack() as stack:
        return _open((stack.enter_context(_seekable(name)) for name in names), opener, out)


def _open(files: Iterable[BinaryIO], opener: AgeOpener, out: TextIO) -> ExitCode:
    newest: dict[bytes, Found] = {}
    unreadable = 0
    for file in files:
        for user, found in _records(file, opener):
            if user is None:
                unreadable += 1
            elif user not in newest or newest[user][0] < found[0]:
                newest[user] = found
    for user, (generation, read) in newest.items():
        try:
            record = require_address(read(), (user, generation))
        except (ValueError, KeyError, TypeError):
            unreadable += 1
        else:
            out.write(json.dumps(record) + "\n")
    if unreadable:
        sys.stderr.write(f"{unreadable} not opened: sealed to another identity, torn, or altered\n")
    return ExitCode.SOME_LEFT_OUT if unreadable else ExitCode.DONE


def _records(file: BinaryIO, opener: AgeOpener) -> Iterator[tuple[bytes | None, Found]]:
    """Each record's user (``None``: unreadable), and its generation with a function that opens it."""

    def line_at(offset: int) -> Callable[[], Record]:
        def read() -> Record:
            file.seek(offset)
            sealed = parse_object(file.readline())["sealed"]
            return parse_object(opener.open(base64.b64decode(sealed, validate=True)))

        return read

    if file.read(len(_AGE)) == _AGE:
        file.seek(0)
        sealed = file.read()
        file.close()  # there may be more age files than a process may have open
        try:
            record = parse_object(opener.open(sealed))
            user, generation = record_address(record)
            yield user, (generation, lambda: record)
        except (ValueError, KeyError, TypeError):
            yield None, (0, dict)
        return
    offset = file.seek(0)
    for line in file:
        if line.strip():
            try:
                user, generation = line_address(parse_object(line))
                yield user, (generation, line_at(offset))
            except (ValueError, KeyError, TypeError):
                yield None, (0, dict)
        offset += len(line)
        file.seek(offset)


def _seekable(name: str) -> BinaryIO:
    """The file, open for reading; standard input is copied to a temporary file, because it is read twice."""
    if name == "-":
        spooled = tempfile.TemporaryFile()  # noqa: SIM115 - sealed records only; closed by the caller
        shutil.copyfileobj(sys.stdin.buffer, spooled)
        spooled.seek(0)
        return spooled
    try:
        return Path(name).open("rb")
    except OSError as error:
        raise UsageError(
            f"cannot read {name}: {error.strerror}", "name the file that the worker delivered to"
        ) from None
