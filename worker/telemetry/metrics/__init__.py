"""What a monitoring system is told about a running worker over HTTP: its numbers, and whether it lives and works."""
