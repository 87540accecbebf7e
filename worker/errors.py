"""The errors and exit codes that a script may rely on; ``core.errors`` has all of them, with what each one means."""

from worker.core.errors import ExitCode, Malformed, WorkerError

__all__ = ["ExitCode", "Malformed", "WorkerError"]
