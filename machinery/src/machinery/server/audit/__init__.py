"""The audit log: who asked the API server for what, when, and what came of it, as audit.k8s.io/v1 Events in a file."""
