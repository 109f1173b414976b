"""The federation's kinds: Cluster, policies, bindings, Work (Karmada's shapes, byte-compatible) and our own.

They stand on the floor because both programs meet in them: the federation writes Work, a member's link reads it.
"""
