"""What a run says about itself: logs that cannot leak, a progress bar or lines, the reconciliation as table or JSON.

The pipeline counts into ``core.stats`` and knows nothing of what is shown from there.
"""
