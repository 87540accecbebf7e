"""The SQS channel."""
