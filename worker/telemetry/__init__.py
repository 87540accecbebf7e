"""What a run says about itself: logs that cannot leak, one statistics, and what draws it (a bar, lines, tables, JSON).

The pipeline counts into the ``stats`` and knows nothing of those who render it.
"""
