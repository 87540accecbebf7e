"""Channels that exist for the tests alone."""
