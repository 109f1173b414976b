"""Volumes of pods on this machine's file system."""
