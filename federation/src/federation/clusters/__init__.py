"""Membership: who may join, whose link is held, what each member can hold."""
