"""The outside world behind the ports: Cognito, queues, ledgers and channels, and what these are built from."""
