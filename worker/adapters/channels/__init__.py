"""How secrets reach their users: an adapter a folder, all passing ``tests/adapters/channels/test_every_channel.py``."""
