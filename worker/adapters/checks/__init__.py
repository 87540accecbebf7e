"""The building blocks of ``check``: findings, questions to AWS, and checks of this host's files.

The questions themselves are defined beside what they are about (those of a channel in its folder); ``setup.checks``
collects them and prints the answers.
"""
