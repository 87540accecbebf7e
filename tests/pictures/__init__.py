"""The pictures of the documentation, made of the real thing: ``python -m tests.pictures`` writes docs/pictures.

What they show belongs to nobody: the people, keys and moments are samples, and the secret is the one of RFC 6238.
"""
