"""What comes in: messages, files of them, and the feed that fills a queue no faster than it is used."""
