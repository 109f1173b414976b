"""federation-server and fedctl: member clusters over zones and providers under one Kubernetes API."""

__version__ = "0.1.0"
