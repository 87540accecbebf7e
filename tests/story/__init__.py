"""The story: what the worker promises, one idea a test. Read these first."""
