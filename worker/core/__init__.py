"""The guarantee: what may happen to one user, in which order it is written, and nothing else."""
