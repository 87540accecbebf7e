"""Where requests wait: an adapter a folder, all passing ``tests/adapters/queues/test_every_queue.py``."""
