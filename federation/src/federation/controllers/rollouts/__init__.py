"""Rollouts: a changed pod template reaches the clusters of a staged workload in the order and at the pace of its strategy.

A workload is staged by its annotation `ubernetes.io/staged-update-strategy`. Each change of its pod template becomes a
StagedUpdateRun (with `ubernetes.io/staged-update-trigger: Manual` it waits for one that somebody makes), and takes over
from the run before. What a run does is `federation.propagation.rollouts.plan`; here its status is written first and the
record on the binding, which the dispatcher obeys, after it. Each pass looks at everything anew, so it may be lost anywhere.

A run that was deleted by hand while it acts begins again, if it was made by itself; else its clusters stay as they are.
"""
