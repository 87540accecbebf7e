"""What the commands do that put a rollout in order by hand."""
