"""Handwritten digits, one reader a format."""
