"""What puts a rollout in order by hand: a file for each command."""
