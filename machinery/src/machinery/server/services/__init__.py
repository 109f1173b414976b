"""Cluster addresses and node ports of Services: chosen, claimed in the store, given back, repaired."""
