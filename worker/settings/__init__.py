"""The settings: every key with its type, default and help, and the sources of the values."""

from worker.settings.sections import Explained, Settings, explain, load

__all__ = ["Explained", "Settings", "explain", "load"]
