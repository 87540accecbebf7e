"""The limits that the system sets to this process (``ulimit``): which of them a run would meet, and what to do.

None of them makes it lose anybody. But a run that ends after an hour, because a file may not grow, is better told of it
at its start.
"""

from __future__ import annotations

import errno
import resource
from collections.abc import Iterator
from contextlib import suppress

NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What a write fails with where there is no room: the disk is full, a quota is used up, a file may not grow further.
The last comes instead of SIGXFSZ, which Python ignores."""
FILES_BESIDE = 128
"""Files that a run has open besides its connections: databases, their logs, channel, sockets, libraries; about 40."""
CONNECTIONS_A_USER = 2
"""Connections for each user who is worked on at once: to Cognito, and to a store or channel on AWS."""
LEAST_ADDRESS_SPACE = 2 << 30
"""Bytes of addresses that a run takes at most, most of them never used (stacks of threads, arenas of the allocator); it
had 1.1 GB."""
LEAST_DATA = 512 << 20
"""Bytes of memory that is written to (RLIMIT_DATA counts reserved memory of that kind too); it had 250 MB."""
LEAST_THREADS = 64
"""Threads and processes that this user must be allowed; a run has about 20 threads."""

_RAISE = "systemd: {unit}; docker: --ulimit {docker}; a shell: ulimit {shell}"


def allow_files(concurrency: int) -> None:
    """Raise the soft limit of open files, within the hard one, to what so many users at once need."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files_needed(concurrency)
    if _below(soft, wanted):
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted if not _below(hard, wanted) else hard, hard))


def files_needed(concurrency: int) -> int:
    """How many files and connections a run has open at most, with so many users at once."""
    return FILES_BESIDE + CONNECTIONS_A_USER * concurrency


def too_low(concurrency: int, *, writes_files: bool) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the limits, and the cure of each.

    ``concurrency``: users at once; ``writes_files``: whether ledger, queue or channel are files here.
    """
    needed, files = files_needed(concurrency), resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if _below(files, needed):
        what = f"{concurrency:,} users at once need {needed:,}: beyond the limit the run waits, then ends with code 75"
        cure = _raised("nofile", f"LimitNOFILE={needed}", f"nofile={needed}", f"-n {needed}")
        yield f"this process may have {files:,} files open, and {what}", f"{cure}; or lower run.concurrency"
    size = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if writes_files and size != resource.RLIM_INFINITY:
        what = (
            "a million users take some GB in ledger and channel file. The run ends with code 75 then, nothing is lost"
        )
        cure = _raised("fsize", "LimitFSIZE=infinity", "fsize=-1", "-f unlimited")
        yield f"no file may grow beyond {size:,} bytes here, and {what}", cure
    seconds = resource.getrlimit(resource.RLIMIT_CPU)[0]
    if seconds != resource.RLIM_INFINITY:
        cure = _raised("cpu", "LimitCPU=infinity", "cpu=-1", "-t unlimited")
        yield f"this process is killed after {seconds:,} s of CPU time (SIGXCPU); a user takes about 1 ms", cure
    yield from _memory()


def _memory() -> Iterator[tuple[str, str]]:
    for kind, least, what, unit, letter in (
        (resource.RLIMIT_AS, LEAST_ADDRESS_SPACE, "addresses", "LimitAS", "v"),
        (resource.RLIMIT_DATA, LEAST_DATA, "data", "LimitDATA", "d"),
    ):
        found = resource.getrlimit(kind)[0]
        if _below(found, least):
            told = f"and a run may need {least >> 20:,}: it would end as by a bug (70), or crash"
            where = f"systemd: {unit}=infinity; a shell: ulimit -{letter} unlimited"
            yield (
                f"this process may have {found >> 20:,} MiB of {what}, {told}",
                f"limit its real memory instead, to 256 MiB or more (a container's memory limit); {where}",
            )
    threads = resource.getrlimit(resource.RLIMIT_NPROC)[0]
    if _below(threads, LEAST_THREADS):
        number = LEAST_THREADS
        cure = _raised("nproc", f"LimitNPROC={number}", f"nproc={number}", f"-u {number}")
        yield f"this user may have {threads:,} processes and threads, and a run alone has about 20", cure


def room() -> str:
    """What to do where a file cannot grow: free space, or raise the limit of this process."""
    size = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if size == resource.RLIM_INFINITY:
        return "free space (df -h), then run the same command again"
    return f"ulimit -f unlimited (no file may grow beyond {size:,} bytes now), then run the same command again"


def _raised(name: str, unit: str, docker: str, shell: str) -> str:
    return f"raise the limit {name} before it starts; " + _RAISE.format(unit=unit, docker=docker, shell=shell)


def _below(limit: int, least: int) -> bool:
    return limit != resource.RLIM_INFINITY and limit < least
