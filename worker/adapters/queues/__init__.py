"""Where requests wait: one adapter a file, all passing ``tests/contract/test_queue.py``."""
