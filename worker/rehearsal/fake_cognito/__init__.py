"""A Cognito on loopback that keeps quotas, issues secrets and fails as the real one does."""
