"""Staged updates: a change of a workload's pod template goes from cluster to cluster, and only as long as it does well. Pure.

    snapshots   pod templates by hash, as the revision records keep them
    record      the annotation on a binding: which template each cluster has; the dispatcher reads it
    stages      a strategy and the fleet become stages of clusters
    sights      what is seen of the workload in each cluster
    gates       one cluster: has it taken the change well
    budgets     may another cluster be disturbed
    plan        a run and what is known: the run a step later
    rules       what admission refuses

A run's status is the log of what was decided; the record on the binding follows from it and from nothing else. So a crash
between the two loses nothing: the next pass writes the record that the status asks for. Only the pod template is staged,
as only its changes are rollouts in Kubernetes; replicas, strategy and overrides act at once.
"""
