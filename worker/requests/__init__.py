"""The requests that come in: as messages, as lines of files and pipes, and how fast a queue may be filled with them."""
