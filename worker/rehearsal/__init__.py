"""The stand-in for Cognito on loopback, and the rehearsal that runs the unchanged worker against it."""
