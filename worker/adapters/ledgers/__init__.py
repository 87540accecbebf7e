"""Where each user's state is kept: one folder for each adapter; all pass
``tests/adapters/ledgers/test_every_ledger.py``.
"""
