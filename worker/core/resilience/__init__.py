"""What the pipeline does when something fails.

The circuit breaker, refusals and throttling: calls that cannot succeed, for everybody or for one user. Deliveries: a
channel that takes no secrets. Retries; writes that are repeated until they are confirmed; claims that expire; and
cancellation where nothing can be lost.
"""
