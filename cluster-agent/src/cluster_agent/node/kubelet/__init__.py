"""Keeps the pods of one node as the API says: plan, pod workers, probes, status."""
