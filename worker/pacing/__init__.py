"""One rate for all workers of a rollout."""
