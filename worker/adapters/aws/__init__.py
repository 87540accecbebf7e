"""What all AWS adapters share: one session, one client a service, one way to say what went wrong, one table schema."""
