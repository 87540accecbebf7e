"""What a run shows of itself: logs without secrets, its progress, and the reconciliation as a table or as JSON.

The pipeline counts into ``core.stats``; these modules only read from there.
"""
