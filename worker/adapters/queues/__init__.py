"""Where requests wait: one folder for each adapter; all pass ``tests/adapters/queues/test_every_queue.py``."""
