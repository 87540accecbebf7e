"""Many users at once: the loop, how many users it admits, when a run ends, and waves of named users."""
