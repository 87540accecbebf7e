"""SQLite as the embedded queue and ledger use it."""
