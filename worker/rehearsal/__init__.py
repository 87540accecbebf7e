"""A fake Cognito on loopback, and the rehearsal that runs the unchanged worker against it."""
