"""Create-only kinds of the federation: what a change would do, why a workload is where it is, whether a decision still holds.

They are answered by the server that is asked, whether it leads or not, and write nothing.
"""
