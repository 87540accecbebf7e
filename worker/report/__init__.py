"""The report page: one HTML file that says how the rollout stands, for people who read no terminal.

``facts`` is what the page is made from, ``verdict`` and ``steps`` the words, ``series`` and ``charts`` the figures over
time, ``page`` puts them into the template beside it, ``file`` writes it. Nothing here opens a store.
"""
