"""A fleet on one machine: hosts as namespaces joined by a WAN, a supervisor, local images."""
