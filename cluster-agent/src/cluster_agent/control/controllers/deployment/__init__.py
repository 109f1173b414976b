"""Deployment controller: rolls ReplicaSets forward and back."""
