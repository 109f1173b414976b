"""Garbage collection: what is owned by nothing that exists goes."""
