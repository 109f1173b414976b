"""How an object differs from cluster to cluster: OverridePolicies, matched, ordered and applied. Pure."""
