"""What tests of several rooms share: whole rollouts, emulators of AWS, rows and messages, virtual time."""
