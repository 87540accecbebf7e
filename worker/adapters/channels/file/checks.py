"""What ``check`` asks of the file channel: whether its file can be written, and will stay."""

from __future__ import annotations

from pathlib import Path

from worker.adapters.checks.files import VOLATILE, file_system, writable
from worker.adapters.checks.findings import Finding, advice


def look_at_file(path: Path, mounts: Path) -> list[Finding]:
    """The file, which need not exist yet; ``mounts``: the table of mounted file systems."""
    found = writable("channel", path)
    if found.fails or (kind := file_system(path.parent, mounts)) not in VOLATILE:
        return [found]
    said = f"{path} is on {kind}: delivered secrets are gone with the container or the machine"
    return [found, advice("channel", said, "keep channel.path on a disk or a volume that outlives them")]
