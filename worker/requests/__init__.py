"""The requests that come in: messages, lines, usernames and their tickets; and how fast a queue may be filled."""
