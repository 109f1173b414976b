"""Cogs without a word of the domain: clock, tasks, back-off, ids, log, metrics, config."""
