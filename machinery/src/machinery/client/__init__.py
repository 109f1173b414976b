"""Clients of the API: over HTTP, in process, and what is built on them (informers, queues, leader election)."""
