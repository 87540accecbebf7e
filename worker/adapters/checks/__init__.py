"""What the checks of every adapter are made of: findings, questions to AWS, and looks at this host's files.

Which questions there are is said where the thing is that they ask about (a channel's in its folder); ``setup.checks``
puts them together and prints the answers.
"""
