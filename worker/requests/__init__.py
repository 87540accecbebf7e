"""What comes in: requests as messages and as lines of files and pipes, and how fast a queue may be filled with them."""
