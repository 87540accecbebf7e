"""The S3 channel."""
