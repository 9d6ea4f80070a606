"""Findings, and all that is said of them, in words and in JSON. Decides nothing."""
