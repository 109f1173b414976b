"""Which clusters run a workload, and how many replicas each: filter, select, divide. Pure."""
