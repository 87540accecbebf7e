"""What survives when processes are killed and the world around them fails."""
