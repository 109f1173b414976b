"""The rope to the federation: identity, heartbeat, report, Works in, statuses out, and the reversed link.

It may be cut at any moment: the member then goes on by itself, and this room tries again.
"""
