"""cluster-agent: the full local orchestrator of a member cluster, and its link to the federation."""

__version__ = "0.1.0"
