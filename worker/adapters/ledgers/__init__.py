"""Where users stand: an adapter a folder, all passing ``tests/adapters/ledgers/test_every_ledger.py``."""
