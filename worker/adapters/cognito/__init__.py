"""The call to Cognito, and what its answers mean."""
