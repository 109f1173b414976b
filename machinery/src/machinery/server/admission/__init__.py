"""Admission: what a write must still be given, and what it must not be, after authorization and before the store."""
