"""A fake Cognito on loopback: it enforces quotas, signs in, issues and verifies secrets, fails like the real one."""
