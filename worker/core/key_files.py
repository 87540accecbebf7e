"""What to do about a file with a key or a secret that every user of a host can read.

Its group may read it: that is how Kubernetes lets a user who is not root have a mounted secret (``fsGroup``).
"""

from __future__ import annotations

READ_BY_OTHERS = 0o006
"""The bits of a mode that let every user of a host read a file, or put another key there."""


def how_to_close(name: str) -> str:
    """Return the line that closes the file; for one that is mounted, the line of the manifest. ``name``: as printed."""
    return (
        f"chmod 600 {name}   (mounted by Kubernetes: defaultMode: 0440 at the volume's secret, with an fsGroup; "
        "by Docker Compose or Swarm: mode: 0440)"
    )
