"""The queue on AWS."""
