"""Where users stand: one adapter a file, all passing ``tests/contract/test_ledger.py``."""
