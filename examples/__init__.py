"""Anybody's code, and how to check it."""
