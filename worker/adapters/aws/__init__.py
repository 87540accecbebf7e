"""What all AWS adapters share: the session and its clients, the HTTP transport, errors, names, policies and
templates.
"""
