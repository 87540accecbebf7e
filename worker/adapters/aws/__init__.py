"""What all AWS adapters share: the session and its clients, transport, errors, names, policies and templates."""
