"""The ledger that workers on many hosts share: one DynamoDB table."""
