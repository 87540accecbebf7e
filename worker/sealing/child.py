"""The process that seals for a worker whose recipients are of a plugin (see ``in_children``)."""

from __future__ import annotations

import json
import os
import signal
import sys

from worker.core.errors import WorkerError
from worker.sealing.age import AgeSealer
from worker.sealing.in_children import SEALED, failure, receive, send
from worker.sealing.recipients import NoAnswers


def main(patience: int) -> None:
    """Seal what comes in, until there is no more. ``patience``: seconds after which a plugin that hangs ends it all."""
    os.environ.pop("PYTHONPATH", None)
    recipients = json.loads(receive(sys.stdin.buffer) or b"[]")
    while (plaintext := receive(sys.stdin.buffer)) is not None:
        answers = NoAnswers()
        signal.alarm(patience)  # its default ends the process, even while the library waits
        try:
            answer = SEALED + AgeSealer(recipients, answers).seal(plaintext)
        except WorkerError as error:
            answer = failure(error, answers)
        signal.alarm(0)
        send(sys.stdout.buffer, answer)


if __name__ == "__main__":
    main(int(sys.argv[1]))
