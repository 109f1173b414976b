"""The Pod Security Standards: what a pod may do at levels baseline and restricted, and how a namespace says its level. Pure.

`levels` reads a namespace's labels, `baseline` and `restricted` hold one function a check, `judge` puts them together in
upstream's order and words. Limit: the checks are those of the served version whatever version a label names.
"""
