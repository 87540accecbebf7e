"""A fake Cognito on loopback: it enforces a quota, issues secrets and fails as the real one does."""
