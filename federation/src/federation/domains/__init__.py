"""Failure domains: what the evidence says of a member. Pure."""
