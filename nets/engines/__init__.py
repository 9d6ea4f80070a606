"""Engines: one training step, as gradcheck.trajectory wants it."""
