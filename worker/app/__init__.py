"""From settings to one run: which adapters they mean, how the worker is put together, what each command does."""
