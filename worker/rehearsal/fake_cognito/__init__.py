"""A fake Cognito on loopback: it keeps a quota, issues secrets and fails as the real one does."""
