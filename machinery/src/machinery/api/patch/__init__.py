"""The patches of the API: JSON patch, JSON merge patch, and strategic merge patch.

All are path-copying: the result shares what did not change with its input, and the input is never written to.
"""
