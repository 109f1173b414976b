"""Controllers that every API server of ours needs, whichever program it belongs to: collection, namespaces, certificates."""
