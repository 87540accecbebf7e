"""How secrets reach their users: one adapter a file, all passing ``tests/contract/test_channel.py``."""
