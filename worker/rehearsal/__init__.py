"""The rehearsal: the whole job with the unchanged worker, against a fake Cognito on loopback."""
