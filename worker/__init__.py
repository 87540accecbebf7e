"""Enrols a whole Amazon Cognito user pool in TOTP multi-factor authentication.

To know the system, read in this order:

- ``model``: the words of the trade; ``rules``: what may happen to a user next
- ``ports``: what the pipeline needs of the world
- ``pipeline``: the way of one user; ``calling``: the call in its middle; ``drain``: many users at once
- ``app``: which adapters there are, and how all is wired; ``job``: the main job around it

Everything else has one reason to exist, which it says at its top.
"""
