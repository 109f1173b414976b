"""SPDY/3.1, as far as the Kubernetes API uses it: exec, attach and port-forward of clients that speak no WebSocket, or tunnel it."""
