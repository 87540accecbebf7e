"""Before a run: what AWS must have, who may do what, and what would go wrong."""
