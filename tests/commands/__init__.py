"""The commands as people and scripts type them: real processes against the fake Cognito."""
