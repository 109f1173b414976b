"""Bytes and revisions: the log that objects live in. Knows no kinds."""
