"""Many users at once: the loop, whom it begins next and how many, when a run ends, and waves of named users."""
