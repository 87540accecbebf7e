"""Turns settings into a run: chooses the adapters, puts the worker together, and does what the commands ask for."""
