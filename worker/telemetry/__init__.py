"""What a run says about itself: logs that cannot leak, one tally, and what draws it (a bar, lines, tables, JSON).

The pipeline counts into the ``tally`` and knows nothing of those who render it.
"""
