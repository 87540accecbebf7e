"""What the pipeline does when something fails: the circuit breaker, retries, writes that are repeated until they are
confirmed, claims that expire, and cancellation where nothing can be lost.
"""
