"""Faults of published networks, in a few lines each."""
