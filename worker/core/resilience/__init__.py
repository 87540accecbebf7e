"""What the pipeline does when something fails: the circuit breaker, retries, expiring claims, safe cancellation."""
