"""The Secrets Manager channel."""
